"""Which command is meant, and its options.

Not argparse's subcommands: those cannot take ``section.key=value`` between options.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import reelmill
from reelmill.cli.command import Command, HelpFormatter


def parse(arguments: Sequence[str], commands: Mapping[str, Command]) -> tuple[Command, argparse.Namespace]:
    """The command that ``arguments`` name and what it is given. Exits for --help and for nonsense."""
    name, rest = _choose(list(arguments), commands)
    command = commands[name]
    parser = argparse.ArgumentParser(
        prog=f"reelmill {name}", description=command.summary, formatter_class=HelpFormatter
    )
    command.add_options(parser)
    parser.epilog = "\n\n".join([*filter(None, [parser.epilog]), "example:", f"    {command.example}"])
    return command, parser.parse_intermixed_args(rest)


def _choose(arguments: list[str], commands: Mapping[str, Command]) -> tuple[str, list[str]]:
    """A command's name and what follows it."""
    names = "\n".join(f"  {name:<16}{command.summary}" for name, command in commands.items())
    parser = argparse.ArgumentParser(
        prog="reelmill",
        usage="reelmill COMMAND [options] [section.key=value ...]",
        description="Train a character-level LSTM on ABC music and mill songs by the million.",
        epilog=f"commands:\n{names}\n\nCOMMAND --help shows its options, --version the version.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", help=argparse.SUPPRESS)
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in commands:
            return name, arguments[length:]
    if arguments and arguments[0] == "--version":
        print(f"reelmill {reelmill.__version__}")
        raise SystemExit(0)
    group = [name for name in commands if arguments and name.startswith(f"{arguments[0]} ")]
    if group and arguments[1:] in (["-h"], ["--help"]):
        print("\n".join(f"reelmill {name:<16}{commands[name].summary}" for name in group))
        raise SystemExit(0)
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        raise SystemExit(0 if arguments else 2)
    parser.error(f"there is no command {arguments[0]!r}; commands are: {', '.join(commands)}")

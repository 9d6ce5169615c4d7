"""The command line: parse, call one function, print.

Every command imports what it needs when it runs, so that ``reelmill --help`` answers at once. What a person
reads goes to standard error as it happens and to standard output as a result; with ``--json`` standard output
is one JSON object. Exit codes: 0 done, 1 not complete or not intact, 2 the request is wrong.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from reelmill.cli import corpus, model, results, songs, upkeep
from reelmill.cli.command import Command
from reelmill.cli.parser import parse
from reelmill.exit import exit_code

COMMANDS: dict[str, Command] = {
    **corpus.COMMANDS,
    **model.COMMANDS,
    **songs.COMMANDS,
    **results.COMMANDS,
    **upkeep.COMMANDS,
}
"""By name, in the order in which ``reelmill --help`` shows them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    logging.basicConfig(level=logging.WARNING, format="reelmill: %(message)s", stream=sys.stderr)
    command, options = parse(sys.argv[1:] if arguments is None else arguments, COMMANDS)
    return exit_code(lambda: command.run(options))

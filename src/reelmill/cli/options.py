"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from reelmill.errors import RequestError


def add_directory(parser: argparse.ArgumentParser) -> None:
    """A songs directory."""
    parser.add_argument("directory", type=Path, metavar="DIR")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """``section.key=value``, any number, anywhere."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="settings, for example audio.format=flac",
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """A config file."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, for example configs/irish.yaml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """A config file and changes to it."""
    add_recipe(parser)
    add_overrides(parser)


def add_shard(parser: argparse.ArgumentParser) -> None:
    """``--shard I/K``, as (I, K)."""
    parser.add_argument(
        "--shard",
        type=_share,
        default=(0, 1),
        metavar="I/K",
        help="do share I of K, 0 ≤ I < K; default 0/1",
    )


def _share(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    raise argparse.ArgumentTypeError(f"{text!r}: expected I/K with 0 ≤ I < K, for example 0/4")


def add_nothing(_: argparse.ArgumentParser) -> None:
    """For a command without options."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """``--run DIR``, for a command with a CONFIG; see ``run_directory``."""
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="run directory; default runs/NAME of the config"
    )


def run_directory(options: argparse.Namespace) -> Path:
    """The run directory that was given, or the one that is named for the config."""
    given: Path | None = options.run
    return given or Path("runs") / Path(options.config).stem


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """What songs begin with: header fields, or ``--prompt``."""
    group = parser.add_argument_group(
        "what songs begin with",
        "Header fields of every song, written as the training tunes have them; the model goes on from there.",
    )
    for name, words in (
        ("title", "for example 'The Kesh'"),
        ("rhythm", "for example jig"),
        ("meter", "for example 6/8"),
        ("key", "for example Ddor, with --meter"),
    ):
        group.add_argument(f"--{name}", metavar=name.upper(), help=words)
    group.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help=r"in place of these, a text as it is, for example 'X:1\nT:The '; \n is a new line; of several "
        "each begins its share of the songs",
    )


def prompt_overrides(options: argparse.Namespace) -> list[str]:
    """``songs.prompts=…`` of what ``add_prompts`` has read; nothing if nothing was said."""
    fields = {name: value for name in ("title", "rhythm", "meter", "key") if (value := vars(options)[name])}
    texts = [prompt.replace("\\n", "\n") for prompt in options.prompt or ()]
    if fields and texts:
        raise RequestError(f"--prompt has the header in it, so --{next(iter(fields))} has no place beside it")
    prompts = texts or ([fields] if fields else [])
    return [f"songs.prompts={json.dumps(prompts, ensure_ascii=False)}"] if prompts else []

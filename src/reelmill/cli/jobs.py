"""Options that the commands of ``jobs/`` share, and what they print."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelmill.cluster.submission import Submission


def job_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for ``python -m jobs.NAME`` with the options of every job."""
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{name}", description=description)
    parser.add_argument(
        "--cluster", metavar="FILE", required=True, help="where to run: configs/cluster/*.yaml"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch files, submit nothing")
    return parser


def add_job_overrides(parser: argparse.ArgumentParser) -> None:
    """``section.key=value``, any number, anywhere; to be added after the other positional arguments."""
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="also cluster.key=value")


def add_songs(parser: argparse.ArgumentParser, songs: int | None, tasks: int) -> None:
    """How many songs and by how many tasks, with these defaults; None: has to be given."""
    many = f"how many (default {songs:,})" if songs else "how many"
    parser.add_argument(
        "--songs",
        metavar="N",
        type=_at_least_1,
        required=songs is None,
        default=songs,
        help=many,
    )
    parser.add_argument(
        "--tasks", metavar="K", type=_at_least_1, default=tasks, help=f"tasks of the array (default {tasks})"
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument("--no-audio", action="store_true", help="text and MIDI only")


def add_force(parser: argparse.ArgumentParser) -> None:
    """For a disk that somebody is going to clear meanwhile."""
    parser.add_argument("--force", action="store_true", help="submit although the songs do not fit the disk")


def print_submitted(sent: Iterable[Submission], *directories: Path) -> None:
    """A line for each stage that was submitted, and how ``directories`` are followed and their jobs ended."""
    sent = list(sent)
    for submission in sent:
        print(f"submitted {submission.stage}: job {', '.join(submission.jobs)}")
    if sent:
        for directory in directories:
            print(f"follow it with: reelmill status {shlex.quote(str(directory))} --watch")
        print(f"end all of it with: reelmill stop {shlex.quote(str(directories[-1]))}")


def _at_least_1(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")

"""``reelmill status``, ``stop``, ``clean`` and ``doctor``: how things stand, what ends, what may go."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reelmill.cli.command import Command
from reelmill.cli.options import add_json
from reelmill.cli.output import print_json, show
from reelmill.errors import RequestError

if TYPE_CHECKING:
    from reelmill.cluster.preflight.machine import SongsToCome


def _status(options: argparse.Namespace) -> int:
    from reelmill.cluster.status.watch import has_failed, status, watch

    if options.watch:
        return int(has_failed(watch(options.directory, options.watch)))
    seen = status(options.directory)
    show(seen, options.json)
    return int(has_failed(seen))


def _stop(options: argparse.Namespace) -> int:
    from reelmill.cluster.stopping import stop

    print(stop(options.directory))
    return 0


def _clean(options: argparse.Namespace) -> int:
    from reelmill.cluster.status.cleaning import find_leftovers, remove

    leftovers = find_leftovers(options.directory)
    if not options.json:
        show(leftovers, as_json=False)
    agreed = options.yes or (bool(leftovers.found) and not options.json and _agreed())
    problems = remove(leftovers) if agreed else []
    if options.json:
        print_json({**leftovers.to_json(), "removed": agreed, "problems": problems})
    for problem in problems:
        print(f"reelmill: {problem}", file=sys.stderr)
    return 0 if not leftovers.found or (agreed and not problems) else 1


def _agreed() -> bool:
    if not sys.stdin.isatty():
        print("reelmill: nobody can be asked here, so nothing is removed; --yes removes it", file=sys.stderr)
        return False
    print("Remove all of this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _doctor(options: argparse.Namespace) -> int:
    from reelmill.cluster.preflight.doctor import examine

    found = []
    for finding in examine(options.cluster, options.place, options.wait, songs=_songs(options)):
        found.append(finding)
        if not options.json:
            print(finding.describe(), flush=True)
    if options.json:
        print_json({"findings": [asdict(finding) for finding in found]})
    return int(any(finding.state == "wrong" for finding in found))


def _songs(options: argparse.Namespace) -> SongsToCome | None:
    """What is asked about songs; None if nothing is."""
    from reelmill import config
    from reelmill.cluster.preflight.machine import SongsToCome

    overrides = [text for text in options.recipe if "=" in text]
    recipes = [Path(text) for text in options.recipe if "=" not in text]
    if options.songs is None:
        if options.recipe:
            raise RequestError(f"{options.recipe[0]!r}: only for --songs N, whose disk it decides")
        return None
    if options.songs < 1 or len(recipes) > 1:
        raise RequestError(f"--songs {options.songs}: expected at least 1, of at most one CONFIG or RUN")
    path = recipes[0] if recipes else None
    settings = config.load(path / "config.yaml" if path and path.is_dir() else path, overrides)
    return SongsToCome(options.songs, settings, not options.no_audio)


def _seconds(text: str) -> float:
    if text.replace(".", "", 1).isdecimal() and float(text) >= 1:
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, at least 1")


def _status_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit code 1: it is not complete, its jobs have ended, and nobody is at it; or no song was made."
    )
    parser.add_argument("directory", type=Path, metavar="RUN|DIR", help="a run, or a songs directory")
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=15.0,
        metavar="SECONDS",
        help="again and again (default: every 15 seconds), until it is done or has failed",
    )
    add_json(parser)


def _stop_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Cancels every job of the run or of the songs that is in Slurm's queue, and those of its chain in "
        "other directories. What is made stays; the command that submitted the jobs goes on with it."
    )
    parser.add_argument("directory", type=Path, metavar="RUN|DIR", help="a run, or a songs directory")


def _clean_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Lists stale leases, temporary files that the next start does not remove, code snapshots that no job "
        "in the queue needs and damaged checkpoints that were set aside, and removes them after asking. What "
        "somebody alive may need is never touched. Where there is no terminal to ask at, and with --json, "
        "nothing is removed unless --yes is given. Exit code 0: nothing is left to remove; 1: something is."
    )
    parser.add_argument("directory", type=Path, metavar="RUN|DIR", help="a run, or a songs directory")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    add_json(parser)


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="check this cluster too")
    parser.add_argument(
        "--place",
        type=Path,
        metavar="DIR",
        default=Path(),
        help="where runs and songs will lie; default here",
    )
    parser.add_argument("--songs", type=int, metavar="N", help="say how much of the disk N songs take")
    parser.add_argument("--no-audio", action="store_true", help="songs without sound")
    parser.add_argument(
        "recipe",
        nargs="*",
        metavar="CONFIG|RUN section.key=value",
        help="what the songs will be made with; default: the defaults",
    )
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", default=300, help="how long for the probe in the queue"
    )
    add_json(parser)


COMMANDS = {
    "status": Command(
        "What is done, running and missing of a run or of songs.",
        "reelmill status runs/irish --watch 60",
        _status_options,
        _status,
    ),
    "stop": Command(
        "End all jobs of a run or of songs, and of their chain.",
        "reelmill stop songs/irish",
        _stop_options,
        _stop,
    ),
    "clean": Command(
        "Remove what kills and damage left in a run or in songs.",
        "reelmill clean songs/irish",
        _clean_options,
        _clean,
    ),
    "doctor": Command(
        "Check this machine, or a cluster, before anyone waits.",
        "reelmill doctor --cluster my-cluster.yaml --songs 100000",
        _doctor_options,
        _doctor,
    ),
}

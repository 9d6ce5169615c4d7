"""``reelmill collect``, ``verify``, ``audit``, ``track``, ``report`` and ``export``: what became of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from reelmill.cli.command import Command
from reelmill.cli.options import add_directory, add_json, add_overrides
from reelmill.cli.output import print_json, show, songs_exit_code
from reelmill.layout import is_songs


def _collect(options: argparse.Namespace) -> int:
    from reelmill.report.publication import publish_songs
    from reelmill.songs.results.collect import collect
    from reelmill.songs.results.publishing import tracking_settings

    tracking = tracking_settings(options.directory, options.overrides)
    summary = collect(options.directory)
    archive = publish_songs(options.directory, tracking)
    if options.json:
        print_json(summary)
    else:
        made = [options.directory / name for name in ("index.parquet", "summary.json", "README.md")]
        print(*made, *([archive] if archive else []), sep="\n")
    return songs_exit_code(True, summary["songs"])


def _verify(options: argparse.Namespace) -> int:
    from reelmill.songs.check.verify import verify

    verification = verify(options.directory, discard_damaged=options.discard_damaged)
    show(verification, options.json)
    return songs_exit_code(verification.intact, verification.songs)


def _audit(options: argparse.Namespace) -> int:
    from reelmill.songs.check.audit import audit

    result = audit(options.directory, options.songs, options.seed, options.overrides)
    show(result, options.json)
    return 0 if result.identical else 1


def _track(options: argparse.Namespace) -> int:
    from reelmill.report.publication import track

    archive = track(options.directory, options.overrides)
    print(f"{archive}: for `comet upload`" if archive else f"{options.directory}: all of it is at Comet")
    return 0


def _report(options: argparse.Namespace) -> int:
    from reelmill.report.page import results, write_report
    from reelmill.report.results import format_results

    path = write_report(options.directory)
    if is_songs(options.directory):
        print(format_results(results(options.directory)), end="")
    print(path)
    return 0


def _export(options: argparse.Namespace) -> int:
    from reelmill.songs.results.export import export

    exported = export(options.directory, options.to, options.where, options.limit)
    show(exported, options.json)
    return 1 if exported.left_out else 0


def _collect_options(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    add_overrides(parser)
    add_json(parser)


def _track_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="RUN|DIR")
    add_overrides(parser)


def _verify_options(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument(
        "--discard-damaged",
        action="store_true",
        help="put damaged shards aside in DIR/damaged; reelmill generate DIR makes them again",
    )
    add_json(parser)


def _audit_options(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    add_overrides(parser)
    parser.add_argument("--songs", type=int, default=20, metavar="K", help="how many; default 20")
    parser.add_argument("--seed", type=int, metavar="S", help="which ones; default another each time")
    add_json(parser)


def _export_options(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument(
        "--to", type=Path, required=True, metavar="PATH",
        help="a book NAME.abc, or a folder that is called midi, wav or musicxml; it must be new",
    )  # fmt: skip
    parser.add_argument(
        "--where", default="true", metavar="SQL",
        help="a condition on columns of index.parquet, for example \"meter = '6/8' and key = 'D'\"",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="the first N songs of those; default all")
    add_json(parser)


COMMANDS = {
    "collect": Command(
        "Index, summary and dataset card of a songs directory.",
        "reelmill collect songs/irish",
        _collect_options,
        _collect,
    ),
    "verify": Command(
        "Check that a corpus is complete, intact and exactly once.",
        "reelmill verify songs/irish",
        _verify_options,
        _verify,
    ),
    "audit": Command(
        "Make random songs again and compare the bytes.",
        "reelmill audit songs/irish --songs 20",
        _audit_options,
        _audit,
    ),
    "track": Command(
        "Bring a run or songs to Comet, or make an archive for it.",
        "reelmill track runs/irish",
        _track_options,
        _track,
    ),
    "report": Command(
        "Write report.html for songs or a run.", "reelmill report songs/irish", add_directory, _report
    ),
    "export": Command(
        "Chosen songs as a book, MIDI, WAV or MusicXML.",
        "reelmill export songs/irish --to jigs.abc",
        _export_options,
        _export,
    ),
}

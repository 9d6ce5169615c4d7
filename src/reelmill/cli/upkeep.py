"""``reelmill status`` and ``doctor``: how things stand."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from reelmill.cli.command import Command
from reelmill.cli.options import add_json
from reelmill.cli.output import print_json, show


def _status(options: argparse.Namespace) -> int:
    from reelmill.cluster.watch import status, watch

    if options.watch:
        watch(options.directory)
        return 0
    seen = status(options.directory)
    show(seen, options.json)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from reelmill.cluster.doctor import examine

    found = []
    for finding in examine(options.cluster, options.place, options.wait):
        found.append(finding)
        if not options.json:
            print(finding.describe(), flush=True)
    if options.json:
        print_json({"findings": [asdict(finding) for finding in found]})
    return int(any(finding.state == "wrong" for finding in found))


def _status_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="RUN|DIR", help="a run, or a songs directory")
    parser.add_argument("--watch", action="store_true", help="again every few seconds until it is done")
    add_json(parser)


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", type=Path, metavar="FILE", help="check this cluster too")
    parser.add_argument("--place", type=Path, metavar="DIR", default=Path(), help="where runs will lie")
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", default=300, help="for the probe in the queue"
    )
    add_json(parser)


COMMANDS = {
    "status": Command("What is done, running and missing of a run or of songs.", _status_options, _status),
    "doctor": Command("Check this machine, or a cluster, before anyone waits.", _doctor_options, _doctor),
}

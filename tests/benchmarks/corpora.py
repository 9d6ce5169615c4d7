"""Whole corpora by the full-size model, kept, collected and verified: what a night's work takes and makes.

100,000 songs without sound, and 5,000 songs with 44.1 kHz stereo WAVs: 50 GB, so look at the disk first. One
`reelmill generate` makes each. The time is that of the command from its start to its end, imports included;
collecting and verifying are timed by themselves.

Run: python tests/benchmarks/corpora.py [--model RUN] [--place DIR] [--text N] [--sound N] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory import watched
from table import Row, row, table
from trained import trained

from reelmill.songs.store.song import TIERS

_REELMILL = [sys.executable, "-m", "reelmill.cli"]


def corpus(model: Path, directory: Path, songs: int, sound: bool) -> list[Row]:
    """Make, collect and verify one corpus; its rows."""
    settings = ["sampling.temperature=0.9"]
    command = [*_REELMILL, "generate", str(model), "--songs", str(songs), "--out", str(directory)]
    command += ["songs.songs_per_shard=100"] if sound else ["--no-audio"]
    seconds, peak = _timed([*command, *settings])
    collecting, _ = _timed([*_REELMILL, "collect", str(directory)])
    verifying, _ = _timed([*_REELMILL, "verify", str(directory)])
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    size = sum(path.stat().st_size for path in directory.glob("*/shard-*.tar"))
    kind = f"{summary['songs']} songs {'with' if sound else 'without'} sound"
    return [
        row(f"{kind}: songs", summary["songs"] / seconds, "/s"),
        row("… wall time", seconds, "s"),
        row("… ids without a song", summary["failed"]["count"], ""),
        row("… attempts", summary["attempts"]["made"], ""),
        *(row(f"… of attempts pass {tier}", 100 * summary["pass_rate"][tier], "%") for tier in TIERS),
        row("… peak memory", peak / 1e6, "MB"),
        row("… tars", size / 1e6, "MB"),
        row("… collect", collecting, "s"),
        row("… verify", verifying, "s"),
    ]


def _timed(command: Sequence[str]) -> tuple[float, int]:
    """Wall seconds of a command that has to succeed, and its peak of resident memory in bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    began = time.monotonic()
    running = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    with watched([running.pid]) as peak:
        if running.wait():
            sys.exit(f"{' '.join(command)}: exit code {running.returncode}")
        seconds = time.monotonic() - began
    return seconds, peak[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a run (default: irish-tuned, trained if it is not there)")
    parser.add_argument("--place", type=Path, default=Path("songs/bench"))
    parser.add_argument("--text", type=int, default=100_000, help="songs without sound (0: none)")
    parser.add_argument("--sound", type=int, default=5_000, help="songs with sound (0: none)")
    parser.add_argument("--keep", action="store_true", help="leave what was made")
    options = parser.parse_args()
    model = options.model or trained()
    found: list[Row] = []
    for name, songs in (("text", options.text), ("sound", options.sound)):
        if songs:
            directory = options.place / name
            if directory.exists():
                sys.exit(f"{directory}: exists already; remove it, or name another --place")
            found += corpus(model, directory, songs, sound=name == "sound")
            if not options.keep:
                shutil.rmtree(directory)
    print(table(found))


if __name__ == "__main__":
    main()

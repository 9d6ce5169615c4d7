"""Songs on a cluster: ``python -m jobs.generate RUN --songs N --out DIR --tasks K --cluster FILE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill.cluster.generate import Songs, generate_on_cluster, scripts
from reelmill.cluster.settings import STAGES, load_cluster
from reelmill.cluster.train import split_overrides
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit, say what was submitted; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.generate", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--songs", metavar="N", type=int, required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the songs directory")
    parser.add_argument("--tasks", metavar="K", type=int, default=1, help="tasks of the array (default 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument("--no-audio", action="store_true", help="text and MIDI only")
    parser.add_argument(
        "--cluster", metavar="FILE", required=True, help="where to run: configs/cluster/*.yaml"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch files, submit nothing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="also cluster.key=value")
    given = parser.parse_intermixed_args(arguments)
    if given.songs < 1 or given.tasks < 1:
        parser.error("--songs and --tasks: at least 1")

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        clusters = {stage: load_cluster(given.cluster, stage, theirs) for stage in STAGES}
        songs = Songs(given.run, given.out, given.songs, given.tasks, given.seed, not given.no_audio, ours)
        if given.dry_run:
            print(scripts(songs, clusters), end="")
            return
        for sent in generate_on_cluster(songs, clusters):
            print(f"submitted {sent.stage}: job {', '.join(sent.jobs)}")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

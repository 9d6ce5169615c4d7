"""Train, generate, collect and report in one go: ``python -m jobs.overnight CONFIG --cluster FILE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill import config
from reelmill.cluster.generate import Songs, overnight, scripts
from reelmill.cluster.settings import STAGES, load_cluster
from reelmill.cluster.train import split_overrides
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit the chain, say what was submitted; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.overnight", description=__doc__)
    parser.add_argument("config", metavar="CONFIG", help="the recipe, for example configs/overnight.yaml")
    parser.add_argument(
        "--cluster", metavar="FILE", required=True, help="where to run: configs/cluster/*.yaml"
    )
    parser.add_argument(
        "--run", metavar="DIR", type=Path, help="run directory (default: runs/NAME of CONFIG)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="songs directory (default: songs/NAME)")
    parser.add_argument("--songs", metavar="N", type=int, default=10_000, help="default 10,000")
    parser.add_argument("--tasks", metavar="K", type=int, default=8, help="tasks of the array (default 8)")
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument("--no-audio", action="store_true", help="text and MIDI only")
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch files, submit nothing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="also cluster.key=value")
    given = parser.parse_intermixed_args(arguments)
    if given.songs < 1 or given.tasks < 1:
        parser.error("--songs and --tasks: at least 1")

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        settings = config.load(given.config, ours)
        clusters = {stage: load_cluster(given.cluster, stage, theirs) for stage in STAGES}
        name = Path(given.config).stem
        run, out = given.run or Path("runs") / name, given.out or Path("songs") / name
        # The run's configuration, which the overrides are in, is what the songs are planned from.
        songs = Songs(run, out, given.songs, given.tasks, given.seed, not given.no_audio)
        if given.dry_run:
            print(scripts(songs, clusters, settings), end="")
            return
        for sent in overnight(settings, songs, clusters):
            print(f"submitted {sent.stage}: job {', '.join(sent.jobs)}")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

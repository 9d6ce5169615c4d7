"""Train on a cluster: ``python -m jobs.train CONFIG --cluster FILE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill import config
from reelmill.cluster.settings import load_cluster
from reelmill.cluster.train import split_overrides, train_on_cluster, training_script
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit, say what was submitted; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.train", description=__doc__)
    parser.add_argument("config", metavar="CONFIG", help="the recipe, for example configs/irish.yaml")
    parser.add_argument(
        "--cluster", metavar="FILE", required=True, help="where to run: configs/cluster/*.yaml"
    )
    parser.add_argument(
        "--run", metavar="DIR", type=Path, help="run directory (default: runs/NAME of CONFIG)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sbatch file, submit nothing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="also cluster.key=value")
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        settings = config.load(given.config, ours)
        cluster = load_cluster(given.cluster, "train", theirs)
        run = given.run or Path("runs") / Path(given.config).stem
        if given.dry_run:
            print(training_script(settings, run, cluster), end="")
            return
        submitted = train_on_cluster(settings, run, cluster)
        if submitted:
            print(f"submitted job {submitted.jobs[0]}; follow it with: reelmill status {run} --watch")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

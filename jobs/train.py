"""Train on a cluster: ``python -m jobs.train CONFIG --cluster FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from reelmill import config
from reelmill.cli.jobs import add_job_overrides, job_parser, print_submitted
from reelmill.cli.options import add_recipe, add_run, run_directory
from reelmill.cluster.settings import load_cluster
from reelmill.cluster.train import split_overrides, train_on_cluster, training_script
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit, say what was submitted; the exit code."""
    parser = job_parser("train", __doc__)
    add_recipe(parser)
    add_run(parser)
    add_job_overrides(parser)
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        settings = config.load(given.config, ours)
        cluster = load_cluster(given.cluster, "train", theirs)
        run = run_directory(given)
        if given.dry_run:
            print(training_script(settings, run, cluster), end="")
            return
        submitted = train_on_cluster(settings, run, cluster)
        print_submitted([submitted] if submitted else [], run)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

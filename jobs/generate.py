"""Songs on a cluster: ``python -m jobs.generate RUN --songs N --out DIR --tasks K --cluster FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill.cli.jobs import add_force, add_job_overrides, add_songs, job_parser, print_submitted
from reelmill.cluster.generate import Songs, generate_on_cluster, scripts
from reelmill.cluster.settings import load_clusters
from reelmill.cluster.train import split_overrides
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit, say what was submitted; the exit code."""
    parser = job_parser("generate", __doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the songs directory")
    add_songs(parser, songs=None, tasks=1)
    add_force(parser)
    add_job_overrides(parser)
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        clusters = load_clusters(given.cluster, theirs)
        songs = Songs(given.run, given.out, given.songs, given.tasks, given.seed, not given.no_audio, ours)
        if given.dry_run:
            print(scripts(songs, clusters), end="")
        else:
            print_submitted(generate_on_cluster(songs, clusters, given.force), given.out)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

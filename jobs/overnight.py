"""Train, generate, collect and report in one go: ``python -m jobs.overnight CONFIG --cluster FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill import config
from reelmill.cli.jobs import add_force, add_job_overrides, add_songs, job_parser, print_submitted
from reelmill.cli.options import add_recipe, add_run, run_directory
from reelmill.cluster.generate import Songs, overnight, scripts
from reelmill.cluster.settings import load_clusters
from reelmill.cluster.train import split_overrides
from reelmill.exit import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, submit the chain, say what was submitted; the exit code."""
    parser = job_parser("overnight", __doc__)
    add_recipe(parser)
    add_run(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="songs directory; default songs/NAME")
    add_songs(parser, songs=10_000, tasks=8)
    add_force(parser)
    add_job_overrides(parser)
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        ours, theirs = split_overrides(given.overrides)
        settings = config.load(given.config, ours)
        clusters = load_clusters(given.cluster, theirs)
        run, out = run_directory(given), given.out or Path("songs") / Path(given.config).stem
        songs = Songs(run, out, given.songs, given.tasks, given.seed, not given.no_audio)
        if given.dry_run:
            print(scripts(songs, clusters, settings), end="")
        else:
            print_submitted(overnight(settings, songs, clusters, given.force), run, out)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())

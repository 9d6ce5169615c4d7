"""The job file of a plain sbatch script, for people without submitit.

    python -m reelmill.cluster.node.prepare corpus CONFIG [section.key=value …]
    REELMILL_JOB=$(python -m reelmill.cluster.node.prepare train CONFIG RUN [section.key=value …])
    python -m reelmill.cluster.node.prepare plan RUN DIR SONGS [section.key=value …]
    REELMILL_JOB=$(python -m reelmill.cluster.node.prepare generate DIR)

``corpus`` and ``plan`` are for the machine that submits: they put the corpus into the cache, which may need
a network, and the plan into the songs directory. ``train`` and ``generate`` are for the batch script: they
print the path of the job's ``job.json``, made at its first start and found again at every later one.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from reelmill import config, durable
from reelmill.cluster.generate import plan_songs
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import JOB, SUBMISSION, Request, write_job
from reelmill.cluster.train import build_corpus, training_request
from reelmill.corpus.build import corpus_directory, load_or_build
from reelmill.corpus.settings import CorpusSettings
from reelmill.errors import RequestError
from reelmill.exit import exit_code

USAGE = (
    "corpus CONFIG [section.key=value …], train CONFIG RUN [section.key=value …], "
    "plan RUN DIR SONGS [section.key=value …], or generate DIR"
)


def main(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """See the module; the exit code."""

    def work() -> None:
        match list(arguments):
            case ["corpus", recipe, *overrides]:
                print(load_or_build(config.load(recipe, overrides).corpus).directory)
            case ["plan", run, songs, count, *overrides] if count.isdigit():
                plan_songs(Path(run), Path(songs), int(count), 0, True, overrides)
            case ["train", _, _, *_] | ["generate", _]:
                print(prepare(arguments[0], arguments[1:], environ))
            case _:
                raise RequestError(f"expected {USAGE}")

    return exit_code(work)


def prepare(stage: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Write the job file, unless an earlier start of this Slurm job has; its path."""
    if stage == "train":
        settings = config.load(arguments[0], arguments[2:])
        request = training_request(settings, Path(arguments[1]))
    else:
        facts = {"audio": True, "overrides": [], "round": 0}
        request = Request("generate", Path(arguments[0]), facts, _tasks(environ))
    job = environ.get("SLURM_ARRAY_JOB_ID") or environ["SLURM_JOB_ID"]
    folder = request.directory.absolute() / "logs" / "submissions" / f"{stage}-{job}"
    if stage == "train":
        refuse_missing_corpus(settings.corpus, [arguments[0], *arguments[2:]])
        build_corpus(settings)  # here, by one process, if its sources have changed since
    if not (folder / JOB).exists():
        write_job(request, ClusterSettings(), folder, int(environ.get("SLURM_ARRAY_TASK_MIN") or 0))
        facts = {"stage": stage, "time": time.time(), "jobs": [job], "tasks": request.tasks or 1}
        durable.write_json(folder / SUBMISSION, {**facts, "cluster": {}})
    return folder / JOB


def refuse_missing_corpus(settings: CorpusSettings, arguments: Sequence[str]) -> None:
    """RequestError if no corpus of ``settings`` was ever built; ``arguments`` are those of ``corpus``."""
    directory = corpus_directory(settings)
    if not (directory / "current.json").exists():
        raise RequestError(
            f"no corpus in {directory}: nodes may have no network, so run this where you submit, and submit "
            f"again: python -m reelmill.cluster.node.prepare corpus {shlex.join(arguments)}\n"
            "If you have run it: the cache (REELMILL_CACHE, else ~/.cache/reelmill) must lie on a disk that "
            "nodes see, and the sources must have the same path there"
        )


def _tasks(environ: Mapping[str, str]) -> int:
    first = int(environ.get("SLURM_ARRAY_TASK_MIN") or 0)
    last = int(environ.get("SLURM_ARRAY_TASK_MAX") or 0)
    if first:
        raise RequestError(f"--array={first}-{last}: shares are counted from 0: use --array=0-{last - first}")
    return last + 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The jobs that are handed to a cluster. Pickled by name: each holds the path of its ``job.json`` and reads
all else from the disk when it starts, so that the tenth start goes on from what the ninth left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from reelmill.cluster import task
from reelmill.cluster.requeue import STOPPED
from reelmill.errors import IncompleteError


@dataclass(frozen=True)
class TrainJob:
    """One rank of a training run."""

    job_file: str

    def __call__(self) -> None:
        task.run(self._work)

    def _work(self) -> bool:
        job = _read(self.job_file)
        from reelmill import config
        from reelmill.training.loop import train

        settings = config.from_dict(job["config"], source=self.job_file)
        result = train(settings, Path(job["directory"]), deadline=task.deadline(job, os.environ))
        return bool(result.finished)


@dataclass(frozen=True)
class PlanJob:
    """Plans a songs directory from a run that is trained by now."""

    job_file: str

    def __call__(self) -> None:
        task.run(self._work)

    def _work(self) -> bool:
        job = _read(self.job_file)
        from reelmill.cluster.generate import plan_songs

        plan_songs(
            Path(job["run"]),
            Path(job["directory"]),
            job["songs"],
            job["seed"],
            job["audio"],
            job["overrides"],
        )
        return True


@dataclass(frozen=True)
class GenerateJob:
    """One share of a songs directory: an element of the array."""

    job_file: str
    share: int

    def __call__(self) -> None:
        task.run(self._work)

    def _work(self) -> bool:
        job = _read(self.job_file)
        _stop_between_two_instructions()
        from reelmill.songs.generate import generate

        outcome = generate(
            Path(job["directory"]),
            overrides=job["overrides"],
            shard=(self.share, job["tasks"]),
            audio=job["audio"],
            progress=self.share == 0,
        )
        print(outcome.describe(), flush=True)
        if not outcome.complete:
            raise IncompleteError(f"share {self.share} of {job['tasks']} is not complete")
        return True


@dataclass(frozen=True)
class CollectJob:
    """Verifies the songs when their array has ended, has made again what is missing, and writes the
    results.
    """

    job_file: str

    def __call__(self) -> None:
        task.run(self._work)

    def _work(self) -> bool:
        job = _read(self.job_file)
        _stop_between_two_instructions()
        from reelmill.cluster.generate import collect_or_submit_again

        print(collect_or_submit_again(job), flush=True)
        return True


def job_object(stage: str, job_file: str, share: int) -> Callable[[], None]:
    """The job of a stage, from its file; ``share`` is which of an array's shares it takes."""
    if stage == "generate":
        return GenerateJob(job_file, share)
    kinds: dict[str, Callable[[str], Callable[[], None]]] = {
        "train": TrainJob,
        "plan": PlanJob,
        "collect": CollectJob,
    }
    return kinds[stage](job_file)


def _stop_between_two_instructions() -> None:
    """Stop wherever a signal finds us: what counts is committed as a whole, the shard in hand is made
    again.
    """

    def stop(_number: int, _frame: object) -> NoReturn:
        for number in task.SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # once is enough: leases are being given back
        sys.exit(STOPPED)

    for number in task.SIGNALS:
        signal.signal(number, stop)


def _read(job_file: str) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    return job

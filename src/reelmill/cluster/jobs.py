"""The jobs that are handed to a cluster. Pickled by name: each holds the path of its ``job.json`` and reads
all else from the disk when it starts, so that the tenth start goes on from what the ninth left.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reelmill.cluster import task
from reelmill.cluster.requeue import STOPPED
from reelmill.errors import IncompleteError


class TrainJob(task.Job):
    """One rank of a training run."""

    def work(self) -> bool:
        job = self.facts()
        from reelmill import config
        from reelmill.training.loop import train

        settings = config.from_dict(job["config"], source=self.job_file)
        result = train(settings, Path(job["directory"]), deadline=task.deadline(job, os.environ))
        return bool(result.finished)


class PlanJob(task.Job):
    """Plans a songs directory from a run that is trained by now."""

    def work(self) -> bool:
        job = self.facts()
        from reelmill.cluster.generate import plan_songs
        from reelmill.cluster.planned import note_planned

        plan_songs(
            Path(job["run"]),
            Path(job["directory"]),
            job["songs"],
            job["seed"],
            job["audio"],
            job["overrides"],
        )
        note_planned(Path(job["directory"]), Path(self.job_file))
        return True


@dataclass(frozen=True)
class GenerateJob(task.Job):
    """One share of a songs directory: an element of the array."""

    share: int

    def work(self) -> bool:
        job = self.facts()
        _stop_between_two_instructions()
        from reelmill.songs.make.generate import generate
        from reelmill.songs.results.publishing import published_live

        with published_live(Path(job["directory"]), job["overrides"]):
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


class CollectJob(task.Job):
    """Verifies the songs when their array has ended, has made again what is missing, and writes the
    results.
    """

    def work(self) -> bool:
        job = self.facts()
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

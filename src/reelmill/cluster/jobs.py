"""The jobs that are handed to a cluster. Pickled by name: each holds the path of its ``job.json`` and reads
all else from the disk when it starts, so that the tenth start goes on from what the ninth left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster import task


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


def job_object(stage: str, job_file: str, share: int) -> Callable[[], None]:
    """The job of a stage, from its file; ``share`` is which of an array's shares it takes."""
    return {"train": lambda: TrainJob(job_file)}[stage]()


def _read(job_file: str) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    return job

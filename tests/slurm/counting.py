"""A job that counts steps into fake checkpoints: how jobs end and go on, without the seconds that torch
takes.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from reelmill.cluster import task
from reelmill.cluster.progress import newest_checkpoint
from reelmill.errors import RequestError


class CountingJob(task.Job):
    """Counts to ``steps``; ``fault`` says what goes wrong at step ``at``."""

    def work(self) -> bool:
        job = self.facts()
        directory, rank = Path(job["directory"]), int(os.environ["RANK"])
        signals: list[int] = []
        for number in task.SIGNALS:
            signal.signal(number, lambda number, _frame: signals.append(number))
        step = newest_checkpoint(directory)
        _note(directory / f"starts-{rank}.jsonl", {"step": step, "environment": dict(os.environ)})
        while step < job["steps"]:
            if signals:
                _save(directory, step, rank)
                return False
            time.sleep(0.05)
            step += 1
            if step == job.get("at"):
                _fail(job["fault"], rank)
            if step % 10 == 0:
                _save(directory, step, rank)
        _save(directory, step, rank)
        return True


def _fail(fault: str, rank: int) -> None:
    if fault == "request":
        raise RequestError("training.steps: no such thing")
    if fault == "request of one rank" and rank == 0:
        raise RequestError("training.steps: no such thing")
    if fault == "error" and rank == 0:  # which saves: whatever the others' pace, its checkpoint is there
        raise ValueError("a bug")
    if fault == "deaf":  # to every signal but KILL
        for number in task.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(3600)
    if fault.startswith("request") or fault == "error":
        time.sleep(3600)  # as in a collective that the first rank never joins


def _save(directory: Path, step: int, rank: int) -> None:
    if rank == 0:
        (directory / "checkpoints" / f"step-{step:06d}").mkdir(parents=True, exist_ok=True)
        (directory / "checkpoints" / f"step-{step:06d}" / "manifest.json").write_text("{}")


def _note(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(facts) + "\n")

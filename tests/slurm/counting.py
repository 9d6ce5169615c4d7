"""A job that counts steps into fake checkpoints: how jobs end and go on, without the seconds that torch
takes.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster.node import task
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.errors import RequestError


@dataclass(frozen=True)
class CountingJob(task.Job):
    """Counts to ``steps``; ``fault`` says what goes wrong at step ``at``."""

    def work(self) -> bool:
        job, rank = self.facts(), int(os.environ["RANK"])
        signals: list[int] = []
        for number in task.SIGNALS:
            signal.signal(number, lambda number, _frame: signals.append(number))
        step = self.counted(job)
        _note(self.starts(job, rank), {"step": step, "environment": dict(os.environ)})
        while step < job["steps"]:
            if signals:
                self.save(job, step, rank)
                return False
            time.sleep(0.05)
            step += 1
            if self.fails(job, step):
                _fail(job["fault"], rank)
            if step % 10 == 0:
                self.save(job, step, rank)
        self.save(job, step, rank)
        return True

    def counted(self, job: dict[str, Any]) -> int:
        return newest_checkpoint(Path(job["directory"]))

    def starts(self, job: dict[str, Any], rank: int) -> Path:
        return Path(job["directory"]) / f"starts-{rank}.jsonl"

    def fails(self, job: dict[str, Any], step: int) -> bool:
        return step == job.get("at")

    def save(self, job: dict[str, Any], step: int, rank: int) -> None:
        if rank == 0:
            _touch(Path(job["directory"]) / "checkpoints" / f"step-{step:06d}" / "manifest.json")


@dataclass(frozen=True)
class CountingShare(CountingJob):
    """An element of an array; ten steps are a shard. ``faulty`` is the share that goes wrong."""

    def counted(self, job: dict[str, Any]) -> int:
        made = (int(path.stem[6:]) for path in Path(job["directory"], "text").glob("shard-*.json"))
        return 10 * sum(number % job["tasks"] == self.share for number in made)

    def starts(self, job: dict[str, Any], rank: int) -> Path:
        return Path(job["directory"]) / f"starts-{self.share}.jsonl"

    def fails(self, job: dict[str, Any], step: int) -> bool:
        return super().fails(job, step) and job["faulty"] == self.share

    def save(self, job: dict[str, Any], step: int, rank: int) -> None:
        for number in range(step // 10):
            shard = self.share + number * job["tasks"]
            _touch(Path(job["directory"]) / "text" / f"shard-{shard:06d}.json")


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


def _touch(manifest: Path) -> None:
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("{}")


def _note(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(facts) + "\n")


@dataclass(frozen=True)
class BoundJob(task.Job):
    """Says how many processors it may use."""

    def work(self) -> bool:
        Path(self.facts()["directory"], "processors").write_text(str(len(os.sched_getaffinity(0))))
        return True

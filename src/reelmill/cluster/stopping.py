"""``reelmill stop``: end every job of a run or songs directory, and of the chain that they belong to.

Jobs of a chain wait for one another, which is how the others are found: a training's songs lie in another
directory. What waits is cancelled first, so that nothing starts because something else has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reelmill.cluster import queue
from reelmill.cluster.cancelling import GO_ON, cancel
from reelmill.cluster.queue import QueuedJob
from reelmill.cluster.submission import SUBMISSIONS, queued
from reelmill.errors import IncompleteError, RequestError
from reelmill.layout import is_run
from reelmill.lock import live_holder


def stop(directory: Path) -> str:
    """Cancel the jobs in the queue of ``directory`` and of its chain; what was ended, in words.

    Raises RequestError if nothing was ever made or submitted there, IncompleteError where Slurm does not
    answer, does not cancel, or a process that is no job trains there.
    """
    if not directory.is_dir():
        raise RequestError(f"{directory}: no such directory; expected a run or a songs directory")
    found = _chain(queued(directory))
    lines = [f"ended job {job.job} ({job.stage or 'a job'}, {job.state})" for job in found]
    if found:
        numbers = list(dict.fromkeys(job.number for job in reversed(found)))
        failed = cancel(numbers)
        if not failed.endswith("cancelled"):
            raise IncompleteError(f"{directory}{failed}")
        lines.append(GO_ON)
    trainer = live_holder(directory, wait=False) if is_run(directory) and not found else ""
    if trainer:
        raise IncompleteError(f"{directory}: {trainer} trains here and is no job: end it where it runs")
    return "\n".join(lines or [f"{directory}: no job is in the queue"])


def _chain(found: Sequence[QueuedJob]) -> list[QueuedJob]:
    """``found`` and all jobs of reelmill that they wait for, or that wait for them; the earliest first."""
    if not found:
        return []
    known = {job.job: job for job in [*queue.listed(()), *found] if f"/{SUBMISSIONS}/" in job.script}
    known |= {job.job: job for job in found}
    numbers, before = {job.number for job in found}, 0
    while len(numbers) > before:
        before = len(numbers)
        for job in known.values():
            if job.number in numbers or numbers & job.waits_for:
                numbers |= {job.number, *(job.waits_for & {other.number for other in known.values()})}
    return sorted((job for job in known.values() if job.number in numbers), key=lambda job: int(job.number))

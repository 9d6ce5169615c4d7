"""Whether a job that ended is queued again: yes, unless it is done, past hope, or makes no progress.

Run by the batch script (``batch.sh``), before and after its tasks:

    python -m reelmill.cluster.node.requeue before JOB       exit 0: start; 1: it has used up its starts
    python -m reelmill.cluster.node.requeue after STATUS JOB exit 0: queue again; 3: done; 1: leave it

Each start and end is a line of a journal beside the job's file, one journal an array element. Light on
purpose: nothing here imports more than a few of our own small modules.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster.node.progress import progress
from reelmill.exit import DONE, WRONG_REQUEST

STOPPED = 75
"""A task's exit code beside everyone's: stopped where the next start can go on (sysexits.h's EX_TEMPFAIL)."""

_WARNED = (128 + signal.SIGUSR1, 128 + signal.SIGUSR2)
"""A task's exit codes where the notice to stop came before Python could take note of it."""

REFUSED, UNFINISHED, FAILED, CANCELLED = "refused", "unfinished", "failed", "cancelled"
"""Notes that a rank leaves beside the job's file: what is wrong with the request, that work is left, where
the log of the first one that failed lies, or what somebody has cancelled.
"""

BY_SLURM = "ended by Slurm or its user (cancelled, preempted or requeued)"


@dataclass(frozen=True)
class Decision:
    """``again``: queue it again. ``reason`` says why or why not, in words for a person."""

    again: bool
    reason: str


def decide(
    status: int,
    ended_by_slurm: bool,
    starts: Sequence[int],
    now: int,
    limit: int,
    refused: str = "",
    cancelled: str = "",
) -> Decision:
    """Whether a job whose tasks ended with ``status`` is queued again.

    ``refused`` is what a rank found wrong with the request, whatever the exit code of the others;
    ``cancelled`` what of its chain somebody has cancelled. ``starts`` is the progress found at each start of
    this Slurm job that counts (``counted_starts``), ``now`` the progress at this moment, ``limit`` how many
    starts may pass without any.
    """
    if status == DONE:
        return Decision(False, "finished")
    if cancelled:
        return Decision(False, f"{CANCELLED}: {cancelled}")
    if refused or status == WRONG_REQUEST:
        return Decision(False, f"the request is wrong: {refused or 'see its log'}")
    if ended_by_slurm:
        return Decision(False, BY_SLURM)
    if _without_progress(starts, now) >= limit:
        return Decision(False, f"{limit} starts without progress (still at {now})")
    return Decision(True, _why_it_ended(status))


def _why_it_ended(status: int) -> str:
    if status == STOPPED:
        return "stopped as asked"
    if status in _WARNED:
        return "stopped as asked, before it had begun"
    return f"its tasks died (exit code {status})"


def may_start(starts: Sequence[int], now: int, limit: int) -> Decision:
    """Whether another start is due: Slurm itself queues again what it preempts or lost with a node."""
    if _without_progress(starts, now) >= limit:
        return Decision(False, f"{limit} starts without progress (still at {now})")
    return Decision(True, "")


def journal(job_file: Path, element: str) -> Path:
    """The journal of a job, or of one element of its array."""
    return job_file.with_name(f"journal-{element or '0'}.jsonl")


def note_path(job_file: Path, kind: str, element: str) -> Path:
    """Where a rank leaves its note."""
    return job_file.with_name(f"{kind}-{element or '0'}.txt")


def forget_notes(job_file: Path, element: str) -> None:
    """Remove the notes of an earlier start."""
    for kind in (REFUSED, UNFINISHED, FAILED, CANCELLED):
        note_path(job_file, kind, element).unlink(missing_ok=True)


def read_notes(job_file: Path, element: str, status: int) -> tuple[int, str, str]:
    """(exit code, what is wrong with the request, what was cancelled), given the tasks' highest exit code.

    Tasks that stop with work left all end well, so that none takes the others down; the note says what it
    means.
    """
    if status == DONE and note_path(job_file, UNFINISHED, element).exists():
        status = STOPPED
    notes = (note_path(job_file, kind, element) for kind in (REFUSED, CANCELLED))
    refused, cancelled = (path.read_text(encoding="utf-8").strip() if path.exists() else "" for path in notes)
    return status, refused, cancelled


def log_of(job_file: Path, element: str, environ: Mapping[str, str]) -> str:
    """The log that says how it ended: that of the rank that failed first, else the batch script's; "" if
    nobody knows.
    """
    failed = note_path(job_file, FAILED, element)
    return failed.read_text(encoding="utf-8") if failed.exists() else environ.get("REELMILL_LOG", "")


def counted_starts(events: Sequence[Mapping[str, Any]]) -> list[int]:
    """The progress that each start found, oldest first, without those that Slurm or a person ended: preempted
    or requeued again and again is no fault of the job's.
    """
    starts: list[int] = []
    for event in events:
        if event["event"] == "start":
            starts.append(event["progress"])
        elif event["reason"] == BY_SLURM and starts:
            starts.pop()
    return starts


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The events in a journal, oldest first. A line that a kill cut short is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """See the module; the exit code is the answer."""
    parser = argparse.ArgumentParser(prog="python -m reelmill.cluster.node.requeue")
    moments = parser.add_subparsers(dest="moment", required=True)
    before = moments.add_parser("before")
    after = moments.add_parser("after")
    after.add_argument("status", type=int)
    after.add_argument("--ended-by-slurm", action="store_true")
    for moment in (before, after):
        moment.add_argument("job", type=Path)
    given = parser.parse_args(arguments)

    job = json.loads(given.job.read_text(encoding="utf-8"))
    element = environ.get("SLURM_ARRAY_TASK_ID", "")
    path = journal(given.job, element)
    job_id = environ["SLURM_JOB_ID"]
    starts = counted_starts([event for event in read_journal(path) if event["job"] == job_id])
    now = progress(job, environ)
    limit = job["max_starts_without_progress"]
    status = 0
    if given.moment == "before":
        decision = may_start(starts, now, limit)
        forget_notes(given.job, element)
        event = "start" if decision.again else "end"
    else:
        status, refused, cancelled = read_notes(given.job, element, given.status)
        decision = decide(status, given.ended_by_slurm, starts, now, limit, refused, cancelled)
        event = "requeue" if decision.again else "end"
    facts = {
        "event": event,
        "job": job_id,
        "name": f"{environ['SLURM_ARRAY_JOB_ID']}_{element}" if element else job_id,
        "log": log_of(given.job, element, environ),
        "progress": now,
        "reason": decision.reason,
        "status": status,
        "nodes": environ.get("SLURM_JOB_NODELIST", ""),
        "restart": int(environ.get("SLURM_RESTART_COUNT") or 0),
        "time": time.time(),
    }
    note(path, facts)
    if event != "start":
        print(
            f"reelmill: {'queued again' if decision.again else 'not queued again'}: {decision.reason}",
            file=sys.stderr,
        )
    if decision.again:
        return 0
    return 3 if given.moment == "after" and status == DONE else 1


def _without_progress(starts: Sequence[int], now: int) -> int:
    """How many of the latest starts found exactly what there is now."""
    count = 0
    for found in reversed(starts):
        if found != now:
            break
        count += 1
    return count


def note(path: Path, event: Mapping[str, Any]) -> None:
    """Add an event to a journal, synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(event) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())

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
    due = may_start(starts, now, limit)
    if not due.again:
        return due
    if status == STOPPED:
        return Decision(True, "stopped as asked")
    if status in _WARNED:
        return Decision(True, "stopped as asked, before it had begun")
    return Decision(True, f"its tasks died (exit code {status})")


def may_start(starts: Sequence[int], now: int, limit: int) -> Decision:
    """Whether another start is due: Slurm itself queues again what it preempts or lost with a node."""
    count = 0
    for found in reversed(starts):
        if found != now:
            break
        count += 1
    return Decision(
        count < limit, f"{limit} starts without progress (still at {now})" if count >= limit else ""
    )


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


def before(job_file: Path, environ: Mapping[str, str]) -> Decision:
    """Note a start in the journal, or the end where no further one is due; forget the notes of the last."""
    job, starts, now = _so_far(job_file, environ)
    decision = may_start(starts, now, job["max_starts_without_progress"])
    forget_notes(job_file, environ.get("SLURM_ARRAY_TASK_ID", ""))
    _note_event("start" if decision.again else "end", decision.reason, 0, now, job_file, environ)
    return decision


def after(
    job_file: Path, environ: Mapping[str, str], status: int, ended_by_slurm: bool = False, stopped: str = ""
) -> tuple[int, str, Decision]:
    """Note how a start ended, whose tasks' highest exit code is ``status``; that code as the ranks' notes
    mean it, what is wrong with the request, and whether to queue it again. ``stopped``: why not, if it could.
    """
    job, starts, now = _so_far(job_file, environ)
    status, refused, cancelled = read_notes(job_file, environ.get("SLURM_ARRAY_TASK_ID", ""), status)
    limit = job["max_starts_without_progress"]
    decision = decide(status, ended_by_slurm, starts, now, limit, refused, cancelled)
    if stopped and decision.again:
        decision = Decision(False, stopped)
    _note_event("requeue" if decision.again else "end", decision.reason, status, now, job_file, environ)
    return status, refused, decision


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """See the module; the exit code is the answer."""
    parser = argparse.ArgumentParser(prog="python -m reelmill.cluster.node.requeue")
    moments = parser.add_subparsers(dest="moment", required=True)
    starting, ending = moments.add_parser("before"), moments.add_parser("after")
    ending.add_argument("status", type=int)
    ending.add_argument("--ended-by-slurm", action="store_true")
    for moment in (starting, ending):
        moment.add_argument("job", type=Path)
    given = parser.parse_args(arguments)
    if given.moment == "before":
        status, decision = None, before(given.job, environ)
        if decision.again:
            return 0
    else:
        status, _, decision = after(given.job, environ, given.status, given.ended_by_slurm)
    said = "queued again" if decision.again else "not queued again"
    print(f"reelmill: {said}: {decision.reason}", file=sys.stderr)
    return 0 if decision.again else 3 if status == DONE else 1


def _so_far(job_file: Path, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[int], int]:
    """What the job's file says, the progress that its starts found, and the progress now."""
    job = json.loads(job_file.read_text(encoding="utf-8"))
    told = read_journal(journal(job_file, environ.get("SLURM_ARRAY_TASK_ID", "")))
    starts = counted_starts([event for event in told if event["job"] == environ["SLURM_JOB_ID"]])
    return job, starts, progress(job, environ)


def _note_event(
    event: str, reason: str, status: int, now: int, job_file: Path, environ: Mapping[str, str]
) -> None:
    element, job_id = environ.get("SLURM_ARRAY_TASK_ID", ""), environ["SLURM_JOB_ID"]
    facts = {
        "event": event,
        "job": job_id,
        "name": f"{environ['SLURM_ARRAY_JOB_ID']}_{element}" if element else job_id,
        "log": log_of(job_file, element, environ),
        "progress": now,
        "reason": reason,
        "status": status,
        "nodes": environ.get("SLURM_JOB_NODELIST", ""),
        "restart": int(environ.get("SLURM_RESTART_COUNT") or 0),
        "time": time.time(),
    }
    note(journal(job_file, element), facts)


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

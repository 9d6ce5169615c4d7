"""How the jobs of a directory stand: what was submitted, what Slurm says of it, how each ended, and the end
of the log that says why.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.cluster import queue
from reelmill.cluster.node.requeue import CANCELLED, read_journal
from reelmill.cluster.submission import JOB, SUBMISSION, queued, submissions
from reelmill.errors import DamagedError, IncompleteError, RequestError

_LINES = 15  # of a failing log
_UNDECIDED = ("PENDING", "RUNNING", "REQUEUED")  # accounting hears of an end a little later
_NOWHERE = "not in the queue"
_HARMLESS = ("COMPLETED", "CANCELLED", *_UNDECIDED)


@dataclass(frozen=True)
class JobStatus:
    """A job: in the queue with Slurm's state, or ended with what accounting or its journal say.

    An array is in one state: that of an element at work, else of one that did not end well, else COMPLETED.
    """

    job: str
    stage: str
    state: str
    reason: str = ""
    nodes: str = ""
    elapsed: int = 0  # seconds, of this start
    ends: dict[str, int] = field(default_factory=dict)  # of an array: elements by state
    queued: bool = False  # waiting or at work, so that more may come


@dataclass(frozen=True)
class Jobs:
    """What was submitted or run here for a directory. ``log`` and ``log_end`` are of the job, or the element
    of an array, that failed last and has not been made good since.
    """

    jobs: list[JobStatus]
    requeues: int
    log: str = ""
    log_end: str = ""
    unknown: str = ""  # why Slurm did not say which are in the queue; "" if it did

    @property
    def more_to_come(self) -> bool:
        """Whether a job is in the queue, or may be as far as anybody knows."""
        return bool(self.unknown) or any(job.queued for job in self.jobs)


@dataclass(frozen=True)
class _Told:
    """What a journal tells of one job or one element of an array, oldest first."""

    name: str  # as Slurm has it: 41, or 41_3
    events: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def state(self) -> str:
        if self.last["event"] != "end":
            return _NOWHERE
        if self.last["reason"].startswith(CANCELLED):
            return "CANCELLED"
        return "FAILED" if self.last["status"] else "COMPLETED"


def jobs_of(directory: Path) -> Jobs:
    """The jobs of all submissions for a directory, oldest first; Slurm is asked only if there are any."""
    sent = sorted([*submissions(directory), *_run_here(directory)], key=lambda item: item["time"])
    numbers = [job for item in sent for job in item["jobs"]]
    in_queue: list[queue.QueuedJob] = []
    fates: dict[str, str] = {}
    unknown = ""
    if numbers:
        fates = queue.ended(numbers)
        try:
            in_queue = queued(directory)
        except (IncompleteError, RequestError) as error:
            unknown = str(error)
    waiting = {entry.job for entry in in_queue}
    found, requeues, failed = [], 0, dict[str, dict[str, Any]]()
    for item in sent:
        told = _journals(Path(item["folder"]))
        requeues += sum(
            event["event"] == "start" and event["restart"] > 0 for one in told for event in one.events
        )
        for job in item["jobs"]:
            mine = [one for one in told if _number(one.name) == job]
            found.append(_slurm_job(job, item, in_queue, fates, mine))
        if not item["jobs"]:
            found += [_local_job(item["stage"], one) for one in told]
        ended = [one for one in told if one.name not in waiting]
        bad = [one for one in ended if _is_bad(one, fates)]
        if bad:
            failed[item["stage"]] = max((one.last for one in bad), key=_time)
        elif any(one.state == "COMPLETED" for one in ended):
            failed.pop(item["stage"], None)
            if item is sent[-1]:  # the last link of a chain, which has seen to what the others left
                failed.clear()
    log = max(failed.values(), key=_time).get("log", "") if failed else ""
    if unknown:
        found = [replace(job, state="not known") if job.state == _NOWHERE else job for job in found]
    return Jobs(found, requeues, *(_end_of(Path(log)) if log else ("", "")), unknown)


def describe_jobs(jobs: Jobs) -> list[str]:
    """Lines for a person: each job, how often they were queued again, the end of the failing log."""
    lines = []
    for job in jobs.jobs:
        facts = [job.state + (f" ({job.reason})" if job.reason and job.reason != "None" else "")]
        facts += [f"{count} {state.lower()}" for state, count in sorted(job.ends.items())]
        if job.nodes:
            facts.append(f"on {job.nodes}" + (f" for {duration(job.elapsed)}" if job.elapsed else ""))
        lines.append(f"job {job.job} ({job.stage}): {', '.join(facts)}")
    if jobs.unknown:
        lines.append(f"which jobs are in the queue is not known: {jobs.unknown}")
    if jobs.requeues:
        lines.append(f"queued again {jobs.requeues} times so far")
    if jobs.log:
        lines += [f"the end of {jobs.log}:", *(f"    {line}" for line in jobs.log_end.splitlines())]
    return lines


def duration(seconds: float | None) -> str:
    """In words short enough for a table: 42 s, 5 min, 3 h 10 min, 2 d 4 h."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _slurm_job(
    job: str,
    item: dict[str, Any],
    in_queue: Sequence[queue.QueuedJob],
    fates: dict[str, str],
    told: Sequence[_Told],
) -> JobStatus:
    mine = [entry for entry in in_queue if _number(entry.job) == job]
    states = {one.name: one.state for one in told}
    states |= {
        name: state
        for name, state in fates.items()
        if _number(name) == job and state not in _UNDECIDED and states.get(name) != "CANCELLED"
    }
    states |= {entry.job: entry.state for entry in mine}
    counted = dict(Counter(states.values())) if item["tasks"] > 1 else {}
    if mine:
        shown = next((entry for entry in mine if entry.state == "RUNNING"), mine[0])
        where = (shown.state, shown.reason, shown.nodes, shown.elapsed)
        return JobStatus(job, item["stage"], *where, ends=counted, queued=True)
    reasons = [one.last for one in told if one.last["event"] == "end"]
    last = max(reasons, key=lambda event: (bool(event["status"]), _time(event)), default={"reason": ""})
    return JobStatus(job, item["stage"], _state(states.values()), last["reason"], ends=counted)


def _state(states: Iterable[str]) -> str:
    """The one state of a job whose elements ended in these: the worst of them."""
    order = [_NOWHERE, "COMPLETED", "CANCELLED"]  # whatever else there is comes after
    return max(states, key=lambda state: order.index(state) if state in order else 3, default=order[0])


def _local_job(stage: str, told: _Told) -> JobStatus:
    """A job of this machine's or another's own processes (``cluster.local``)."""
    state, host = told.state, told.last["nodes"]
    if told.last["event"] != "end":
        state = "begun"
        if host == socket.gethostname() and Path("/proc/self").exists():
            process = Path("/proc", told.name.removeprefix("local-"))
            state = "RUNNING" if process.exists() else "gone without a word"
    return JobStatus(told.name, stage, state, told.last["reason"], host)


def _is_bad(told: _Told, fates: dict[str, str]) -> bool:
    """Whether a job that is not in the queue ended badly, by its journal or, if it had no time for a last
    word there, by accounting.
    """
    if told.state == "CANCELLED" or fates.get(told.name) == "CANCELLED":
        return False
    if told.last["event"] == "end":
        return bool(told.last["status"])
    return fates.get(told.name, "COMPLETED") not in _HARMLESS


def _journals(folder: Path) -> list[_Told]:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("journal-*.jsonl")):
        for event in read_journal(path):
            by_name.setdefault(event.get("name", event["job"]), []).append(event)
    return [_Told(name, events) for name, events in by_name.items()]


def _run_here(directory: Path) -> list[dict[str, Any]]:
    """What was run without Slurm, in the form of ``submissions``."""
    found = []
    for path in sorted((directory / "logs" / "submissions").glob(f"*/{JOB}")):
        events = read_journal(path.with_name("journal-0.jsonl"))
        if not path.with_name(SUBMISSION).exists() and events:
            with contextlib.suppress(DamagedError):
                stage = durable.read_json(path)["stage"]
                found.append({"stage": stage, "time": _time(events[0]), "jobs": [], "folder": path.parent})
    return found


def _end_of(log: Path) -> tuple[str, str]:
    """A log and its last lines; nothing if it is not there."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return "", ""
    lines = [line.split("\r")[-1] for line in text.splitlines() if not line.startswith("submitit INFO")]
    return str(log), "\n".join(lines[-_LINES:])


def _number(name: str) -> str:
    return name.split("_")[0]


def _time(event: dict[str, Any]) -> float:
    return float(event["time"])

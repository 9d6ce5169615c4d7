"""How a run stands: read from its files and from ``squeue``, so no client has to be alive for it to be
known.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reelmill import config, durable
from reelmill.cluster import queue
from reelmill.cluster.progress import newest_checkpoint
from reelmill.cluster.requeue import read_journal
from reelmill.cluster.submission import submissions
from reelmill.errors import DamagedError, IncompleteError, RequestError

_LINES = 15  # of a failing log
_RECENT = 20  # records of metrics that the rate is taken from


@dataclass(frozen=True)
class JobStatus:
    """A job of the run: in the queue with Slurm's state, or ended with what its journal or accounting say."""

    job: str
    stage: str
    state: str
    reason: str = ""
    nodes: str = ""
    elapsed: int = 0  # seconds, of this start
    ends: dict[str, int] = field(default_factory=dict)  # of an array: elements by state


@dataclass(frozen=True)
class Jobs:
    """What was submitted for a directory. ``log`` and ``log_end`` are of the latest job that failed."""

    jobs: list[JobStatus]
    requeues: int
    log: str = ""
    log_end: str = ""


@dataclass(frozen=True)
class RunStatus:
    """How far a run has come. Rate and time left are of its latest minutes; None where nothing is known."""

    directory: str
    step: int
    steps: int
    finished: bool
    steps_per_second: float | None
    seconds_left: float | None
    checkpoint: int
    bits_per_char: float | None
    held_out_bits_per_char: float | None
    jobs: Jobs

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        lines = [f"{self.directory}: step {self.step} of {self.steps}{', finished' if self.finished else ''}"]
        if self.steps_per_second and not self.finished:
            left = f", {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
            lines.append(f"rate: {self.steps_per_second:.2f} steps/s{left}")
        lines.append(f"last checkpoint: step {self.checkpoint}" if self.checkpoint else "no checkpoint yet")
        if self.bits_per_char is not None:
            held_out = self.held_out_bits_per_char
            lines.append(
                f"bits per character: {self.bits_per_char:.3f}"
                + (f", held out {held_out:.3f}" if held_out is not None else "")
            )
        return "\n".join([*lines, *describe_jobs(self.jobs)])


def run_status(run: Path, now: float | None = None) -> RunStatus:
    """The status of a run directory. ``now`` is in seconds since 1970 (default: the clock's).

    Raises RequestError if ``run`` is not a run directory.
    """
    if not any((run / name).exists() for name in ("config.yaml", "metrics.jsonl", "checkpoints", "logs")):
        raise RequestError(f"{run}: neither a run nor a songs directory")
    records = _records(run / "metrics.jsonl")
    checkpoint = newest_checkpoint(run)
    step = max([checkpoint, *(record["step"] for record in records[-1:])])
    steps = _steps(run)
    state = _state(run, checkpoint)
    finished = bool(state.get("finished")) and (bool(state.get("stopped_early")) or checkpoint >= steps)
    jobs = jobs_of(run)
    rate = steps_per_second(records, now or time.time())
    held_out = [
        record["validation_bits_per_char"] for record in records if "validation_bits_per_char" in record
    ]
    return RunStatus(
        directory=str(run),
        step=step,
        steps=steps,
        finished=finished,
        steps_per_second=rate,
        seconds_left=(steps - step) / rate if rate and not finished else None,
        checkpoint=checkpoint,
        bits_per_char=next(
            (record["bits_per_char"] for record in reversed(records) if "bits_per_char" in record), None
        ),
        held_out_bits_per_char=held_out[-1] if held_out else None,
        jobs=jobs,
    )


def jobs_of(directory: Path) -> Jobs:
    """The jobs of all submissions for a directory, oldest first; Slurm is asked only if there are any."""
    sent = submissions(directory) if (directory / "logs" / "submissions").is_dir() else []
    numbers = [job for item in sent for job in item["jobs"]]
    in_queue: list[queue.QueuedJob] = []
    fates: dict[str, str] = {}
    if numbers and queue.slurm_here():
        with contextlib.suppress(IncompleteError, RequestError):
            in_queue = queue.queued(numbers)
            fates = queue.ended(numbers)
    found, requeues, log = [], 0, ("", "")
    for item in sent:
        folder = Path(item["folder"])
        events = [event for path in sorted(folder.rglob("journal-*.jsonl")) for event in read_journal(path)]
        requeues += sum(event["event"] == "start" and event["restart"] > 0 for event in events)
        ends = [event for event in events if event["event"] == "end"]
        for job in item["jobs"]:
            found.append(_job_status(job, item, in_queue, fates, ends))
        failures = [event for event in ends if event["status"]]
        if failures:
            log = _end_of_log(folder, failures[-1])
        elif ends:
            log = ("", "")  # a later submission went well
    return Jobs(found, requeues, *log)


def describe_jobs(jobs: Jobs) -> list[str]:
    """Lines for a person: each job, how often they were queued again, the end of the failing log."""
    lines = []
    for job in jobs.jobs:
        facts = [job.state + (f" ({job.reason})" if job.reason and job.reason != "None" else "")]
        facts += [f"{count} {state.lower()}" for state, count in sorted(job.ends.items())]
        if job.nodes:
            facts.append(f"on {job.nodes} for {duration(job.elapsed)}")
        lines.append(f"job {job.job} ({job.stage}): {', '.join(facts)}")
    if jobs.requeues:
        lines.append(f"queued again {jobs.requeues} times so far")
    if jobs.log:
        lines += [f"the end of {jobs.log}:", *(f"    {line}" for line in jobs.log_end.splitlines())]
    return lines


def steps_per_second(records: Sequence[dict[str, Any]], now: float, stale: float = 3600) -> float | None:
    """The rate over the latest records of one uninterrupted start; None if they are older than ``stale``
    seconds.
    """
    timed = [(record["step"], record["time"]) for record in records[-_RECENT:] if record.get("time")]
    if len(timed) < 2 or now - timed[-1][1] > stale:
        return None
    begin = 0
    for index in range(1, len(timed)):
        usual = (timed[-1][1] - timed[0][1]) / (len(timed) - 1)
        if timed[index][1] - timed[index - 1][1] > 5 * usual:  # a wait in the queue is no part of the rate
            begin = index
    steps, seconds = timed[-1][0] - timed[begin][0], timed[-1][1] - timed[begin][1]
    return steps / seconds if steps > 0 and seconds > 0 else None


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


def _job_status(
    job: str,
    item: dict[str, Any],
    in_queue: Sequence[queue.QueuedJob],
    fates: dict[str, str],
    ends: Sequence[dict[str, Any]],
) -> JobStatus:
    mine = [entry for entry in in_queue if entry.job.split("_")[0] == job]
    states: dict[str, int] = {}
    if item["tasks"] > 1:
        for state in [entry.state for entry in mine] + [
            state
            for name, state in fates.items()
            if name.startswith(f"{job}_") and state not in ("PENDING", "RUNNING")
        ]:
            states[state] = states.get(state, 0) + 1
    if mine:
        running = [entry for entry in mine if entry.state == "RUNNING"]
        shown = (running or mine)[0]
        return JobStatus(job, item["stage"], shown.state, shown.reason, shown.nodes, shown.elapsed, states)
    reason = ends[-1]["reason"] if ends else ""
    fallback = ("COMPLETED" if ends[-1]["status"] == 0 else "FAILED") if ends else "not in the queue"
    return JobStatus(job, item["stage"], fates.get(job, fallback), reason, ends=states)


def _end_of_log(folder: Path, failure: dict[str, Any]) -> tuple[str, str]:
    logs = sorted(folder.rglob("*_log.out"), key=lambda path: path.stat().st_mtime)
    mine = [path for path in logs if path.name.startswith(str(failure["job"]))] or logs
    if not mine:
        return "", ""
    path = mine[-1]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    lines = [line.split("\r")[-1] for line in text.splitlines() if not line.startswith("submitit INFO")]
    return str(path), "\n".join(lines[-_LINES:])


def _records(path: Path) -> list[dict[str, Any]]:
    # Not the log's own reader: a line being written right now is nothing to be strict about here.
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record.get("kind") == "train":
                    records.append(record)
    return records


def _steps(run: Path) -> int:
    with contextlib.suppress(RequestError):
        return config.load(run / "config.yaml").training.steps
    for item in reversed(submissions(run)):  # queued, not begun
        with contextlib.suppress(DamagedError, KeyError):
            return int(durable.read_json(Path(item["folder"]) / "job.json")["config"]["training"]["steps"])
    return 0


def _state(run: Path, step: int) -> dict[str, Any]:
    with contextlib.suppress(DamagedError):
        state: dict[str, Any] = durable.read_json(run / "checkpoints" / f"step-{step:06d}" / "state.json")
        return state
    return {}

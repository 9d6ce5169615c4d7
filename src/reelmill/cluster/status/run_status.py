"""How a run stands: read from its files and from ``squeue``, so no client has to be alive for it to be
known.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reelmill import config, durable
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.status.job_status import Jobs, describe_jobs, duration, jobs_of
from reelmill.cluster.submission import submissions
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import METRICS, STATE, checkpoint_path, is_finished, is_run
from reelmill.lock import live_holder
from reelmill.tracking.metrics import read_metrics

_RECENT = 20  # records of metrics that the rate is taken from


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
    trainer: str | None  # who trains now; "" if nobody does, None where that cannot be seen from here
    jobs: Jobs

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        lines = [f"{self.directory}: step {self.step} of {self.steps}{', finished' if self.finished else ''}"]
        if self.trainer:
            lines.append(f"{self.trainer} is training")
        elif self.trainer == "" and not self.finished and not self.jobs.more_to_come:
            lines.append("nobody is training: the command that began it goes on with it")
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
    if not is_run(run):
        raise RequestError(f"{run}: neither a run nor a songs directory")
    records = _records(run)
    checkpoint = newest_checkpoint(run)
    step = max([checkpoint, *(record["step"] for record in records[-1:])])
    steps = _steps(run)
    state = _state(run, checkpoint)
    finished = is_finished(state, checkpoint, steps)
    jobs = jobs_of(run)
    if finished:  # what failed on the way has been made good
        jobs = replace(jobs, log="", log_end="")
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
        trainer=live_holder(run, wait=False),
        jobs=jobs,
    )


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


def _records(run: Path) -> list[dict[str, Any]]:
    with contextlib.suppress(DamagedError):
        return [record for record in read_metrics(run / METRICS) if record.get("kind") == "train"]
    return []


def _steps(run: Path) -> int:
    with contextlib.suppress(RequestError):
        return config.load(run / "config.yaml").training.steps
    for item in reversed(submissions(run)):  # queued, not begun
        with contextlib.suppress(DamagedError, KeyError):
            return int(durable.read_json(Path(item["folder"]) / "job.json")["config"]["training"]["steps"])
    return 0


def _state(run: Path, step: int) -> dict[str, Any]:
    with contextlib.suppress(DamagedError):
        state: dict[str, Any] = durable.read_json(checkpoint_path(run, step) / STATE)
        return state
    return {}

"""One task of a job: takes its rank, does its stage's work, and says by its exit code what became of it.

``python -m reelmill.cluster.node.task JOB`` runs a stage from its ``job.json``; submitit's pickles hold no
more than that path and come here too, so every way of starting a job is one way.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from reelmill.cluster.environment import take_rank
from reelmill.cluster.node.requeue import (
    CANCELLED,
    FAILED,
    REFUSED,
    STOPPED,
    UNFINISHED,
    WRONG_REQUEST,
    note_path,
)
from reelmill.errors import CancelledError, IncompleteError, RequestError

_WORK = "reelmill.cluster.node.work"  # a function a stage; imported where it runs
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Job:
    """What is submitted: the path of its ``job.json``, which names the stage and is read when the job starts,
    and which share of an array it takes. So the tenth start goes on from what the ninth left.
    """

    job_file: str
    share: int = 0

    def __call__(self) -> None:
        run(self.work)

    def work(self) -> bool:
        """Do this task's part of its stage; whether nothing of it is left."""
        done: bool = getattr(importlib.import_module(_WORK), self.facts()["stage"])(self)
        return done

    def facts(self) -> dict[str, Any]:
        """What ``job.json`` says."""
        facts: dict[str, Any] = json.loads(Path(self.job_file).read_text(encoding="utf-8"))
        return facts


def run(work: Callable[[], bool]) -> None:
    """Do ``work``, which says whether it is finished, and turn what comes of it into the task's exit code.

    The first bad exit would end all tasks at once. So where work is left all ranks end well, each when it is
    ready, and rank 0 leaves a note beside the job's file; without one its exit code is 75.
    """
    for number in SIGNALS:
        # In front of submitit's, which would requeue right there.
        signal.signal(number, _stop_before_the_beginning)
    rank = take_rank(os.environ)
    try:
        finished = work()
    except RequestError as error:
        _say(error)
        _note_log()
        with contextlib.suppress(OSError):  # a full disk has no room for it; the exit code says enough
            _note(REFUSED, str(error))
        sys.exit(WRONG_REQUEST)
    except IncompleteError as error:
        _say(error)
        _note_log()
        if isinstance(error, CancelledError):
            _note(CANCELLED, str(error))
        sys.exit(1)
    except Exception:
        _note_log()
        raise
    if not finished and rank == 0 and not _note(UNFINISHED, "stopped as asked"):
        sys.exit(STOPPED)


def _say(error: RequestError | IncompleteError) -> None:
    if not error.said:
        print(error, file=sys.stderr, flush=True)


def _note(kind: str, text: str) -> bool:
    """Leave a note for what decides about the job's end (``requeue``); False if no job file says where."""
    path = _place(kind)
    if path is None:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def _note_log() -> None:
    """Leave a note where this rank's log is a file, unless another rank has failed before."""
    path = _place(FAILED)
    with contextlib.suppress(OSError):
        log = Path("/proc/self/fd/2").readlink()
        if path is not None and log.is_file():
            with path.open("x", encoding="utf-8") as file:
                file.write(str(log))


def _place(kind: str) -> Path | None:
    """Where a note of this rank goes; None if no job file says."""
    job_file = os.environ.get("REELMILL_JOB")
    return note_path(Path(job_file), kind, os.environ.get("SLURM_ARRAY_TASK_ID", "")) if job_file else None


def deadline(job: Mapping[str, Any], environ: Mapping[str, str]) -> float | None:
    """When to stop (seconds since 1970 by this node's clock), the warning's length before the time limit;
    None: no limit. To be asked as the task starts: Slurm has said how many seconds are left.
    """
    left = environ.get("REELMILL_SECONDS_LEFT")
    return time.time() + float(left) - float(job["warning"]) if left else None


def _stop_before_the_beginning(number: int, frame: object) -> NoReturn:
    os._exit(STOPPED)  # nothing has been begun, so there is nothing to write


def main() -> None:
    """See the module."""
    path = Path(sys.argv[1])
    Job(str(path), _share(path))()


def _share(path: Path) -> int:
    first = json.loads(path.read_text(encoding="utf-8"))["first"]
    return int(first) + int(os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("REELMILL_SHARE") or 0)


if __name__ == "__main__":
    main()

"""One task of a job: takes its rank, does its stage's work, and says by its exit code what became of it.

``python -m reelmill.cluster.task JOB`` runs a stage from its ``job.json``; submitit's pickles hold no more
than that path and come here too, so every way of starting a job is one way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from reelmill.cluster.environment import take_rank
from reelmill.cluster.requeue import STOPPED, WRONG_REQUEST, refusal
from reelmill.errors import IncompleteError, RequestError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run(work: Callable[[], bool]) -> None:
    """Do ``work``, which says whether it is finished, and turn what comes of it into the task's exit code.

    Unfinished work ends rank 0 with 75 (queue again) and the other ranks with 0: the first bad exit ends
    the whole job, and rank 0 may still be writing what all have agreed on.
    """
    for number in SIGNALS:
        signal.signal(
            number, _stop_before_the_beginning
        )  # in front of submitit's, which would requeue right there
    rank = take_rank(os.environ)
    try:
        finished = work()
    except RequestError as error:
        print(error, file=sys.stderr, flush=True)
        _note_refusal(str(error))
        sys.exit(WRONG_REQUEST)
    except IncompleteError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(1)
    if not finished:
        sys.exit(STOPPED if rank == 0 else 0)


def _note_refusal(reason: str) -> None:
    # The other ranks may end by a signal, whose exit code is higher and would hide this one's.
    if "REELMILL_JOB" in os.environ:
        refusal(Path(os.environ["REELMILL_JOB"]), os.environ.get("SLURM_ARRAY_TASK_ID", "")).write_text(
            reason
        )


def deadline(job: Mapping[str, Any], environ: Mapping[str, str]) -> float | None:
    """When to stop (seconds since 1970), the warning's length before the time limit; None: no limit."""
    end = environ.get("REELMILL_DEADLINE")
    return float(end) - float(job["warning"]) if end else None


def _stop_before_the_beginning(number: int, frame: object) -> NoReturn:
    os._exit(STOPPED)  # nothing has been begun, so there is nothing to write


def main() -> None:
    """See the module."""
    from reelmill.cluster.jobs import job_object

    path = Path(sys.argv[1])
    job_object(json.loads(path.read_text(encoding="utf-8"))["stage"], str(path), _share(path))()


def _share(path: Path) -> int:
    first = json.loads(path.read_text(encoding="utf-8"))["first"]
    return int(first) + int(os.environ.get("SLURM_ARRAY_TASK_ID") or os.environ.get("REELMILL_SHARE") or 0)


if __name__ == "__main__":
    main()

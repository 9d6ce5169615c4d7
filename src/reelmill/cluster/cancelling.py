"""A chain of jobs is queued whole or not at all, and what a person has cancelled stays cancelled."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reelmill.cluster import queue
from reelmill.cluster.node.requeue import BY_SLURM, read_journal
from reelmill.errors import IncompleteError, RequestError

GO_ON = "the command that submitted the jobs goes on from what is made"


@contextlib.contextmanager
def all_or_none(jobs: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Cancel ``jobs()``, those that are queued by then, if what is done in the block fails; the error says
    so.
    """
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{error}{cancel(jobs())}") from None
    except IncompleteError as error:
        raise IncompleteError(f"{error}{cancel(jobs())}") from None
    except BaseException:
        if jobs():
            print(f"interrupted{cancel(jobs())}", file=sys.stderr)
        raise


def cancel(jobs: Sequence[str]) -> str:
    """Cancel ``jobs``; what became of them, as the end of a sentence."""
    if not jobs:
        return ""
    names = f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"
    try:
        queue.ask("scancel", *jobs)
    except (IncompleteError, RequestError) as error:
        return f"; {names} already queued could not be cancelled ({error}): scancel {' '.join(jobs)}"
    return f"; {names} already queued: cancelled"


def was_cancelled(submission: Mapping[str, Any]) -> bool | None:
    """Whether somebody has cancelled a job of a submission that has ended, or an element of its array; None
    if neither Slurm nor its journals say how it ended.
    """
    fates = queue.ended_lately(submission["jobs"])
    if fates:
        return "CANCELLED" in fates.values()
    # A container may have none of Slurm's programs.
    events = [read_journal(path) for path in Path(submission["folder"]).rglob("journal-*.jsonl")]
    return any(told[-1]["reason"] == BY_SLURM for told in events if told) if any(events) else None

"""A chain of jobs is queued whole or not at all: what was queued before a refusal is cancelled."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reelmill.cluster import queue
from reelmill.errors import IncompleteError, RequestError


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


def queued_from(folder: Path) -> list[str]:
    """The jobs in the queue whose sbatch file lies in ``folder``: an sbatch without an answer may have queued
    one.
    """
    try:
        listed = queue.ask("squeue", "-h", "-u", getpass.getuser(), "-o", "%F %o")
    except (IncompleteError, RequestError):
        return []
    found = (line.split(" ", 1) for line in listed.splitlines())
    return sorted({job for job, command in found if command.startswith(f"{folder}/")})


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

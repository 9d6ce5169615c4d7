"""One trainer a run directory: a lease in RUN/train.lock, renewed while its holder lives (``filelock``).

A holder of this machine that is gone is known to be dead at once, one of another machine after ``LEASE``
seconds without a sign of life. Whoever was held up for longer (a suspended job) may have been taken for dead;
so a trainer asks before it writes whether the run is still its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import SoftFileLease, Timeout

from reelmill import durable
from reelmill.errors import IncompleteError, RequestError

LOCK = "train.lock"
LEASE = 20.0  # seconds; a sign of life comes every quarter
_LOOK = 0.2  # seconds between two looks for one


@contextlib.contextmanager
def held_lock(run: Path) -> Iterator[RunLock]:
    """Hold the run's lock inside the block; RequestError names the process that holds it already."""
    lock = RunLock(run)
    try:
        taken = lock.take()
    except OSError as error:
        durable.raise_explained(error, run / LOCK)
    if not taken:
        raise RequestError(
            f"{run}: {lock.holder()} is training in this run directory; wait for it or stop it first"
        )
    try:
        yield lock
    finally:
        lock.release()


def live_holder(run: Path, wait: bool = True) -> str | None:
    """Return who trains in ``run`` now, in words; "" if nobody does.

    Whether a holder on another machine lives takes up to ``LEASE`` seconds to see; None without ``wait``.
    """
    lock = RunLock(run)
    if not lock.holder():
        return ""
    if not wait and not lock.is_held_here():
        return None
    if lock.take():
        lock.release()
        return ""
    return lock.holder()


class RunLock:
    """The lock of one run, held by this process, by another or by none."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lease = SoftFileLease(
            run / LOCK, lease_duration=LEASE, heartbeat_interval=LEASE / 4, thread_local=False
        )

    def holder(self) -> str:
        """Return whom the lock's file names, in words, dead or alive; "" if there is none."""
        owner = self._lease.owner
        return f"process {owner.pid} on {owner.hostname}" if owner else ""

    def is_held_here(self) -> bool:
        """Whether the holder is, or was, a process of this machine."""
        owner = self._lease.owner
        return owner is not None and owner.hostname == socket.gethostname()

    def _holder_runs_here(self) -> bool:
        """Whether the holder is seen to live; one of this machine that nobody has buried yet does not."""
        with contextlib.suppress(psutil.Error):
            pid = self._lease.pid if self.is_held_here() else None
            return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    def take(self) -> bool:
        """Take the lock, from a dead holder too; False as soon as its holder is seen to live."""
        first, began = self._touched(), time.monotonic()
        while True:
            with contextlib.suppress(Timeout):
                self._lease.acquire(timeout=_LOOK, poll_interval=_LOOK / 4)
                return True
            if self.holder():
                if self._holder_runs_here() or self._touched() != first:
                    return False
            elif self._touched() == first and time.monotonic() - began > LEASE:
                self._lease.force_break()  # its holder was killed before it had written its name

    def refuse_if_lost(self) -> None:
        """Raise IncompleteError where another trainer has taken the run over."""
        if not self._lease.is_lock_held_by_us:
            raise IncompleteError(
                f"{self.run}: {self.holder() or 'another process'} has taken this run over, as this one gave "
                f"no sign of life for {LEASE:.0f} seconds; this one ends and writes nothing more"
            )

    def release(self) -> None:
        """Give the lock back, unless another has it by now."""
        self._lease.release()

    def _touched(self) -> int:
        # Opening makes a network file system ask its server.
        with contextlib.suppress(FileNotFoundError), (self.run / LOCK).open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
        return 0

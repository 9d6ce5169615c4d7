"""Locks among processes of many machines: a lease in a file, renewed while its holder lives (``filelock``).

A holder of this machine that is gone is known to be dead at once, one of another machine after ``LEASE``
seconds without a sign of life. It takes nothing of a disk but that one of two can create a file, and files
carry their holder's name. Whoever was held up for longer than that (a suspended job) may have been taken for
dead; so a trainer asks before it writes whether the run is still its own.
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
def exclusive(path: Path) -> Iterator[None]:
    """Be the only one in such a block with this ``path``, for moments; wait for whoever is in one."""
    lock = Lock(path)
    while not _taken(lock):
        pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held_lock(run: Path) -> Iterator[Lock]:
    """Hold the lock of a run inside the block; RequestError names the process that holds it already."""
    lock = Lock(run / LOCK)
    if not _taken(lock):
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
    lock = Lock(run / LOCK)
    if not lock.holder():
        return ""
    if not wait and not lock.is_held_here():
        return None
    if lock.take():
        lock.release()
        return ""
    return lock.holder()


class Lock:
    """The lock in the file ``path``, held by this process, by another or by none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lease = SoftFileLease(
            path, lease_duration=LEASE, heartbeat_interval=LEASE / 4, thread_local=False
        )

    def holder(self) -> str:
        """Return whom the file names, in words, dead or alive; "" if it names none."""
        owner = self._lease.owner
        return f"process {owner.pid} on {owner.hostname}" if owner else ""

    def is_held_here(self) -> bool:
        """Whether the holder is, or was, a process of this machine."""
        owner = self._lease.owner
        return owner is not None and owner.hostname == socket.gethostname()

    def take(self) -> bool:
        """Take the lock, from a dead holder too; False as soon as its holder is seen to live."""
        first, began = self._touched(), time.monotonic()
        while True:
            with contextlib.suppress(Timeout):
                self._lease.acquire(timeout=_LOOK, poll_interval=_LOOK / 10)
                return True
            if self.holder():
                if self._holder_runs_here() or self._touched() != first:
                    return False
            elif self._touched() == first and time.monotonic() - began > LEASE:
                self._lease.force_break()  # its holder was killed before it had written its name

    def refuse_if_lost(self) -> None:
        """Raise IncompleteError where another process has taken the lock over."""
        if not self._lease.is_lock_held_by_us:
            raise IncompleteError(
                f"{self.path}: {self.holder() or 'another process'} has taken over, as this one gave no sign "
                f"of life for {LEASE:.0f} seconds; this one ends and writes nothing more"
            )

    def release(self) -> None:
        """Give the lock back, unless another has it by now."""
        self._lease.release()

    def _holder_runs_here(self) -> bool:
        """Whether the holder is seen to live; one of this machine that nobody has buried yet does not."""
        with contextlib.suppress(psutil.Error):
            pid = self._lease.pid if self.is_held_here() else None
            return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    def _touched(self) -> int:
        # Opening makes a network file system ask its server.
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
        return 0


def _taken(lock: Lock) -> bool:
    try:
        return lock.take()
    except OSError as error:
        durable.raise_explained(error, lock.path)

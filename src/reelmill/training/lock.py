"""One trainer a run directory.

Each start makes the next of the files train.lock, train.lock.1, train.lock.2 …, which only one can; the
highest names the holder, or says that it is released. A file is never used again, so of all who find the
same holder dead one takes its place, with nothing but the creation of a file to rely on.

Whether a holder lives its machine's kernel says (flock), however it ended. Shared disks may not carry such
locks from one machine to another, or at all, or keep them for a machine that is lost; therefore the holder
also touches its file every few seconds, and where the kernel does not know, that counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.errors import RequestError

LOCK = "train.lock"
_BEAT = 5.0  # seconds between two signs of life
_PATIENCE = 20.0  # seconds without one after which a holder that the kernel does not know is taken for dead
_NAME = re.compile(rf"{re.escape(LOCK)}(?:\.(\d+))?")
_RELEASED = {"released": True}


@contextlib.contextmanager
def held_lock(run: Path) -> Iterator[None]:
    """Hold the run's lock inside the block; RequestError names the process that holds it already."""
    try:
        descriptor = _take(run)
    except OSError as error:
        durable.raise_explained(error, run / LOCK)
    try:
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(descriptor, ended), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            with contextlib.suppress(OSError):
                _write(descriptor, _RELEASED)
    finally:
        os.close(descriptor)


def live_holder(run: Path) -> str:
    """Who trains in ``run`` now, in words; "" if nobody does. Takes the lock for no longer than a look."""
    return _look(run, wait=True) or ""


def holder_at_a_glance(run: Path) -> str | None:
    """The same without waiting for a sign of life: None where only that would tell."""
    return _look(run, wait=False)


def _look(run: Path, wait: bool) -> str | None:
    while run.is_dir() and (numbers := _numbers(run)):
        with contextlib.suppress(FileNotFoundError):  # a new holder has removed it
            return _living(_path(run, numbers[-1]), wait)
    return ""


def _take(run: Path) -> int:
    """A descriptor of this process's lock file."""
    while True:
        numbers = _numbers(run)
        try:
            living = _living(_path(run, numbers[-1])) if numbers else ""
        except FileNotFoundError:
            continue  # a new holder has removed it
        if living:
            raise RequestError(
                f"{run}: {living} is training in this run directory; wait for it or stop it first"
            )
        number = numbers[-1] + 1 if numbers else 0
        try:
            descriptor = os.open(_path(run, number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            continue  # somebody was faster
        if _claimed(run, number, descriptor):
            return descriptor


def _claimed(run: Path, number: int, descriptor: int) -> bool:
    """Put this process's name into its new file; False if others have gone past its number meanwhile."""
    try:
        _locked(descriptor, fcntl.LOCK_EX)  # before the name, by which others know that it may be locked
        _write(descriptor, {"host": socket.gethostname(), "pid": os.getpid()})
        numbers = _numbers(run)
        if number == max(numbers, default=None):
            for older in numbers[:-1]:
                _path(run, older).unlink(missing_ok=True)
            return True
    except BaseException:
        os.close(descriptor)
        _path(run, number).unlink(missing_ok=True)
        raise
    os.close(descriptor)
    _path(run, number).unlink(missing_ok=True)
    return False


def _numbers(run: Path) -> list[int]:
    """The numbers of the lock files there are, in order."""
    found = (_NAME.fullmatch(path.name) for path in run.iterdir())
    return sorted(int(match[1] or 0) for match in found if match)


def _path(run: Path, number: int) -> Path:
    return run / (f"{LOCK}.{number}" if number else LOCK)


def _living(path: Path, wait: bool = True) -> str | None:
    """Who holds the lock in ``path``, in words; "" if it is released or its holder dead. None where only
    waiting would tell.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        holder = _holder(path)
        if holder == _RELEASED:
            return ""
        known = holder.get("host") == socket.gethostname()  # not yet, where a file was made just now
        locked = _locked(descriptor, fcntl.LOCK_SH) if known else None
        if locked is None and not wait:
            return None
        alive = _still_beating(path) if locked is None else not locked
        return _who(_holder(path)) if alive else ""
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool | None:
    """Whether the kernel's lock is ours now; None where there are no such locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP) else False
    return True


def _still_beating(path: Path) -> bool:
    # Compared with itself, not with our clock, which may differ from the disk's.
    first = _touched(path)
    waited_until = time.monotonic() + _PATIENCE
    while time.monotonic() < waited_until:
        time.sleep(0.2)
        if _touched(path) != first:
            return _holder(path) != _RELEASED
    return False


def _touched(path: Path) -> int:
    with path.open("rb") as file:  # opening makes a network file system ask its server
        return os.fstat(file.fileno()).st_mtime_ns


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        with contextlib.suppress(OSError):
            os.utime(descriptor)


def _holder(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads(path.read_text())
        if isinstance(holder, dict):
            return holder
    return {}


def _write(descriptor: int, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode() + b"\n"
    os.pwrite(descriptor, data, 0)  # first, as a full disk has no room for a file that was emptied
    os.ftruncate(descriptor, len(data))
    os.utime(descriptor)


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else "a process"

"""One trainer a run directory.

The lock is the kernel's (flock), so on one machine it goes with its holder however that ends. Shared disks
may not carry it from one machine to another, or keep it for a machine that is lost; therefore the holder also
touches the file every few seconds, and for another machine's lock only that counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
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
_LOOK = 0.5  # seconds in which somebody who only looks at the lock has let it go again
_PATIENCE = 20.0  # seconds without one after which another machine's holder is taken for dead


@contextlib.contextmanager
def held_lock(run: Path) -> Iterator[None]:
    """Hold the run's lock inside the block; RequestError names the process that holds it already."""
    path = run / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        durable.raise_explained(error, path)
    try:
        _take(descriptor, path)
        _write(descriptor, {"host": socket.gethostname(), "pid": os.getpid()})
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(descriptor, ended), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def live_holder(run: Path) -> str:
    """Who trains in ``run`` now, in words; "" if nobody does. Takes the lock for no longer than a look."""
    path = run / LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        holder = _holder(path)
        if not holder:
            return ""
        alive = _still_beating(path) if _is_elsewhere(holder) else not _locked(descriptor, fcntl.LOCK_SH)
        return _who(holder) if alive else ""
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    end = time.monotonic() + _LOOK
    while not (locked := _locked(descriptor, fcntl.LOCK_EX)) and time.monotonic() < end:
        time.sleep(0.05)
    holder = _holder(path)
    if _still_beating(path) if _is_elsewhere(holder) else not locked:
        raise RequestError(
            f"{path.parent}: {_who(holder)} is training in this run directory; wait for it or stop it first"
        )


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # no locks here, so none held
    return True


def _is_elsewhere(holder: dict[str, Any]) -> bool:
    return bool(holder) and holder.get("host") != socket.gethostname()


def _still_beating(path: Path) -> bool:
    # Compared with itself, not with our clock, which may differ from the disk's.
    first = _touched(path)
    waited_until = time.monotonic() + _PATIENCE
    while time.monotonic() < waited_until:
        time.sleep(0.2)
        if _touched(path) != first:
            return True
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


def _write(descriptor: int, holder: dict[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)
    os.utime(descriptor)


def _who(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else "a process"

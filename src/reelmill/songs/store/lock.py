"""One at a time, among processes of many machines, for moments: whoever changes a small file that all share.

The kernel's lock (flock) goes with its holder, however that ends. Some shared disks have none (Lustre as it
is mounted by default, NFS without its lock daemon). There numbered files stand for it: who makes the file of
the next number, which the file system lets only one do, holds the lock. The file with the highest number says
whether it is held; it is never removed, so nobody who was slow can take an old number for the next. Whoever
has held the lock for ``PATIENCE`` seconds is taken for dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from reelmill import durable

PATIENCE = 30.0  # seconds; what is done under a lock takes milliseconds
_LOOK = 0.02  # seconds between two
_FREE = "free"
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Be the only one who is in such a block with this ``path``, a file that need not be there yet."""
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(path.open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                held.callback(_release, _numbered(path, _take(path)))
        except OSError as error:
            durable.raise_explained(error, path)
        yield


def _take(path: Path) -> int:
    """Take the lock; the number it is held by."""
    seen, since = -1, 0.0
    while True:
        last = _last(path)
        if last != seen:
            seen, since = last, time.monotonic()
        if _is_held(path, last) and time.monotonic() - since < PATIENCE:
            time.sleep(_LOOK)
            continue
        try:
            _numbered(path, last + 1).touch(exist_ok=False)
        except FileExistsError:
            continue
        if _last(path) == last + 1:
            for number in _numbers(path):
                if number <= last:
                    _numbered(path, number).unlink(missing_ok=True)
            return last + 1
        _numbered(path, last + 1).unlink(missing_ok=True)  # others had gone on meanwhile


def _release(lock: Path) -> None:
    with contextlib.suppress(OSError):  # on a full disk the next one has to be patient
        lock.write_text(_FREE)


def _is_held(path: Path, number: int) -> bool:
    try:
        return number > 0 and _numbered(path, number).read_text() != _FREE
    except FileNotFoundError:  # there is a higher one
        return True


def _last(path: Path) -> int:
    return max(_numbers(path), default=0)


def _numbers(path: Path) -> list[int]:
    names = [other.name.removeprefix(f"{path.name}-") for other in path.parent.glob(f"{path.name}-*")]
    return [int(name) for name in names if name.isdigit()]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-{number}")

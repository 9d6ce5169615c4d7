"""Keeping freed memory in the process: a song's samples, or what an LSTM remembers of a batch on a CPU, are
tens of megabytes, several times over, and the same again a moment later.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)
_KEPT = 1 << 30  # bytes


@functools.cache
def keep_freed_memory() -> None:
    """Have malloc reuse large blocks instead of giving each back and asking for it again, page by page.

    For the whole process, and only with glibc; elsewhere it does nothing. Without it a third of the time of
    rendering goes to the kernel, and threads that render wait for each other there; so does a fifth of a
    training step on a CPU, in 65,000 page faults.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_THRESHOLD, _KEPT)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)

"""Files without a name: no environment leaks into what they hold, and nothing is left whatever is killed.

Who opens files by name sees one by its descriptor (``/dev/fd/N``).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def anonymous_file(data: bytes = b"") -> Iterator[BinaryIO]:
    """A file without a name that holds ``data``; in memory where the system can."""
    file: BinaryIO
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("reelmill"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    with file:
        if data:
            file.write(data)
            file.seek(0)  # macOS opens /dev/fd/N where this descriptor stands, Linux at the beginning
        yield file


def contents(file: BinaryIO) -> bytes:
    """All bytes of an anonymous file."""
    file.seek(0)
    return file.read()

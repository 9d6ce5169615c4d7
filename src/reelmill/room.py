"""Room on disks, and numbers of bytes in words."""

from __future__ import annotations

import shutil
from pathlib import Path


def existing(place: Path) -> Path:
    """``place``, or the nearest directory above it that exists."""
    return next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())


def free_bytes(place: Path) -> int:
    """Free bytes of the disk that ``place`` lies on, or will lie on."""
    return shutil.disk_usage(existing(place)).free


def size_text(size: int) -> str:
    """A number of bytes for a person: 0 B, 12 kB, 3.4 MB, 1,234.5 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1000:.0f} kB" if size >= 1000 else f"{size} B"

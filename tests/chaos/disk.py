"""A disk that fills up: a songs directory moves to a file system with little room, and back."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_MORE = 1 << 30  # bytes


class SmallDisk:
    """A tmpfs at ``place`` with room for ``size`` bytes; ``close`` takes it down."""

    def __init__(self, place: Path, size: int) -> None:
        self._place = place
        place.mkdir(exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))

    def leave(self, room: int) -> None:
        """Have so many bytes left, rounded up to whole pages."""
        seen = os.statvfs(self._place)
        used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
        _mount("-o", f"remount,size={used + room}", str(self._place))

    def grow(self) -> None:
        """Have enough left."""
        self.leave(_MORE)

    def close(self) -> None:
        """Unmount it; what is on it is lost."""
        subprocess.run(["umount", "-l", str(self._place)], timeout=60, check=True)


@contextlib.contextmanager
def moved(songs: Path, place: Path) -> Iterator[tuple[Path, SmallDisk]]:
    """``songs`` as it is moves to a small disk at ``place``, and back at the end if that is reached."""
    disk = SmallDisk(place, _MORE + _bytes(songs))
    try:
        there = Path(shutil.copytree(songs, place / songs.name))
        yield there, disk
        shutil.rmtree(songs)
        shutil.copytree(there, songs)
    finally:
        disk.close()


def can_mount(place: Path) -> bool:
    """Whether this user may mount a file system."""
    try:
        SmallDisk(place, 1 << 20).close()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], capture_output=True, timeout=60, check=True)


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size + 4096 for path in directory.rglob("*") if path.is_file())

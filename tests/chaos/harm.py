"""Harm done to shards that lie finished on a disk, as bad disks, people and half copies do it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reelmill.songs.store.manifest import Kind, manifest_path, tar_path

Harm = Callable[[Path, Kind, int], None]


def _truncate(songs: Path, kind: Kind, number: int) -> None:
    path = tar_path(songs, kind, number)
    os.truncate(path, path.stat().st_size * 2 // 3)


def _flip(songs: Path, kind: Kind, number: int) -> None:
    with tar_path(songs, kind, number).open("r+b") as file:
        middle = file.seek(0, os.SEEK_END) // 2
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([byte ^ 1]))


def _rot(songs: Path, kind: Kind, number: int) -> None:
    path = tar_path(songs, kind, number)
    seen = path.stat()
    _flip(songs, kind, number)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _remove_tar(songs: Path, kind: Kind, number: int) -> None:
    tar_path(songs, kind, number).unlink()


def _remove_manifest(songs: Path, kind: Kind, number: int) -> None:
    manifest_path(songs, kind, number).unlink()


def _cut_manifest(songs: Path, kind: Kind, number: int) -> None:
    path = manifest_path(songs, kind, number)
    os.truncate(path, path.stat().st_size // 2)


HARMS: dict[str, Harm] = {
    "tar truncated": _truncate,
    "byte flipped": _flip,
    "byte rotten, size and time as before": _rot,
    "tar removed": _remove_tar,
    "manifest removed": _remove_manifest,
    "manifest truncated": _cut_manifest,
}

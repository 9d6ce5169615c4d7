"""A copy of the code as it is now, so that a job runs what was there when it was submitted.

The whole source of ``reelmill`` and ``jobs`` is copied, committed or not, into a directory named for its
content: many submissions of the same code share one. Jobs put it ahead of the installed package with
PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import reelmill
from reelmill import durable


def snapshot_path(place: Path, sources: list[Path] | None = None) -> Path:
    """Where under ``place`` the snapshot of ``sources`` (default: the running code) lies or would lie."""
    digest = hashlib.sha256()
    for root in sources or running_sources():
        for file in _files(root):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{root.name}/{file.relative_to(root)}\0{content}\n".encode())
    return place / digest.hexdigest()[:12]


def take_snapshot(place: Path, sources: list[Path] | None = None) -> Path:
    """The directory under ``place`` that holds a copy of ``sources``; made unless it is there already."""
    path = snapshot_path(place, sources)
    if _still_wanted(path):
        return path
    place.mkdir(parents=True, exist_ok=True)
    try:
        with durable.creating_directory(path) as partial:
            for root in sources or running_sources():
                for file in _files(root):
                    copy = partial / root.name / file.relative_to(root)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy)
    except OSError:
        if not path.exists():  # or another submission was first, with the same content
            raise
    return path


def _still_wanted(path: Path) -> bool:
    """Whether a snapshot is there; touched, so that it is not cleaned away before its job is in the queue."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return path.exists()
    return True


def running_sources() -> list[Path]:
    """The directories of the packages that are running now."""
    package = Path(reelmill.__file__).resolve().parent
    beside = [package.parent / "jobs", package.parent.parent / "jobs"]
    return [package, *[path for path in beside if (path / "__init__.py").is_file()][:1]]


def _files(root: Path) -> list[Path]:
    return sorted(
        file
        for file in root.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not durable.is_temporary(file)
    )

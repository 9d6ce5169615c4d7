"""What kills, damage and ended submissions leave in a run or songs directory that no next run removes.

Nothing that somebody alive may need is found here: not while a worker holds a lease, not the code of a job in
the queue, and otherwise nothing that was touched in the last ten minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from reelmill import durable
from reelmill.cluster.submission import code_directory, queued, submissions
from reelmill.errors import IncompleteError, RequestError
from reelmill.layout import CHECKPOINTS, is_run, is_songs
from reelmill.room import size_text
from reelmill.songs.store.leases import read_leases

Kind = Literal["lease", "temporary", "code", "damaged"]
WORDS: dict[Kind, str] = {
    "lease": "stale lease",
    "temporary": "temporary file",
    "code": "old code snapshot",
    "damaged": "damaged checkpoint, set aside",
}
QUIET = 600.0
"""Seconds without a touch after which a file is taken for left behind."""
_DAMAGED = re.compile(r"step-\d{6,}\.damaged-\d+")


@dataclass(frozen=True)
class Leftover:
    """A file or directory that may go; ``bytes`` with all that is in it."""

    path: str
    kind: Kind
    bytes: int


@dataclass(frozen=True)
class Leftovers:
    """What may go from a directory, and in words what has to stay for now."""

    directory: str
    found: list[Leftover]
    kept: list[str]

    @property
    def bytes(self) -> int:
        """Size of all that may go."""
        return sum(item.bytes for item in self.found)

    def describe(self) -> str:
        """Lines for a person."""
        lines = [f"{WORDS[item.kind]:<31}{size_text(item.bytes):>9}  {item.path}" for item in self.found]
        lines += [f"stays: {reason}" for reason in self.kept]
        total = f"{len(self.found)} to remove, {size_text(self.bytes)}" if self.found else "nothing to remove"
        return "\n".join([*lines, f"{self.directory}: {total}"])

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "directory": self.directory,
            "leftovers": [asdict(item) for item in self.found],
            "bytes": self.bytes,
            "kept": self.kept,
        }


def find_leftovers(directory: Path, now: float | None = None) -> Leftovers:
    """What is left behind in a run or songs directory. ``now``: seconds since 1970 (default: the clock's).

    Raises RequestError if ``directory`` is neither a run nor a songs directory.
    """
    songs = is_songs(directory)
    if not songs and not is_run(directory):
        raise RequestError(f"{directory}: neither a run nor a songs directory")
    now = time.time() if now is None else now
    kept: list[str] = []
    found = [
        *(_leases(directory) if songs else _damaged(directory)),
        *_temporaries(directory, songs, now, kept),
        *_snapshots(directory, now, kept),
    ]
    return Leftovers(str(directory), found, kept)


def remove(leftovers: Leftovers, now: float | None = None) -> list[str]:
    """Remove what was found, as far as it still is left behind: a person may have thought for hours. Gives in
    words what could not be removed.
    """
    now = time.time() if now is None else now
    still = {item.path for item in find_leftovers(Path(leftovers.directory), now).found}
    problems = []
    for item in leftovers.found:
        try:
            if item.path in still:
                _remove(Path(item.path), item.kind, now)
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as error:
            problems.append(f"{error.filename or item.path}: cannot be removed ({error.strerror})")
    return problems


def _remove(path: Path, kind: Kind, now: float) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    doomed = durable.temporary(path)  # so that half a snapshot never stands under its name
    path.rename(doomed)
    if kind == "code" and now - doomed.stat().st_mtime <= QUIET:
        doomed.rename(path)  # a submission has come for it just now
        return
    shutil.rmtree(doomed)


def _leases(songs: Path) -> Iterator[Leftover]:
    for lease in read_leases(songs):
        if not lease.live:
            yield _leftover(songs / "leases" / f"shard-{lease.shard:06d}.json", "lease")


def _damaged(run: Path) -> Iterator[Leftover]:
    for path in sorted((run / CHECKPOINTS).glob("*")):
        if _DAMAGED.fullmatch(path.name):
            yield _leftover(path, "damaged")


def _temporaries(directory: Path, songs: bool, now: float, kept: list[str]) -> Iterator[Leftover]:
    swept = () if songs else (directory, directory / CHECKPOINTS)  # by the next start of training
    paths = [path for path in sorted(_temporary_paths(directory)) if path.parent not in swept]
    live = [str(lease.shard) for lease in read_leases(directory) if lease.live] if songs else []
    stay = [path for path in paths if live or now - _touched(path) <= QUIET]
    yield from (_leftover(path, "temporary") for path in paths if path not in stay)
    if stay:
        young = f"they were touched in the last {QUIET / 60:.0f} minutes"
        why = f"shards {', '.join(live)} are being made" if live else young
        kept.append(f"{len(stay)} temporary files, as {why}")


def _temporary_paths(directory: Path) -> Iterator[Path]:
    for place, directories, files in os.walk(directory):
        for name in [*directories, *files]:
            if durable.is_temporary(Path(place, name)):
                yield Path(place, name)
        directories[:] = [name for name in directories if not durable.is_temporary(Path(name))]


def _snapshots(directory: Path, now: float, kept: list[str]) -> Iterator[Leftover]:
    place = code_directory(directory)
    paths = sorted(path for path in place.glob("*") if path.is_dir() and not durable.is_temporary(path))
    if not paths:
        return
    try:
        needed = _needed_code(directory)
    except (IncompleteError, RequestError) as error:
        kept.append(f"{len(paths)} code snapshots, as Slurm cannot say whose jobs are in the queue ({error})")
        return
    for path in paths:
        if path.name in needed or None in needed:
            kept.append(f"{path}, the code of a job in the queue")
        elif now - path.stat().st_mtime <= QUIET:
            kept.append(f"{path}, taken in the last {QUIET / 60:.0f} minutes")
        else:
            yield _leftover(path, "code")


def _needed_code(directory: Path) -> set[str | None]:
    """Names of snapshots that jobs in the queue need; None among them if a job does not say which."""
    waiting = queued(directory)
    numbers = {job.number for job in waiting}
    return {
        Path(item["code"]).name if "code" in item else None
        for item in submissions(directory)
        if numbers & set(item["jobs"]) or any(job.script.startswith(f"{item['folder']}/") for job in waiting)
    }


def _leftover(path: Path, kind: Kind) -> Leftover:
    return Leftover(str(path), kind, sum(file.lstat().st_size for file in _files(path)))


def _touched(path: Path) -> float:
    return max((file.lstat().st_mtime for file in [path, *_files(path)]), default=0.0)


def _files(path: Path) -> list[Path]:
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [Path(place, name) for place, _, files in os.walk(path) for name in files]

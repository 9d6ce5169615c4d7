"""Shards on disk: where they lie, how one is committed, and whether one counts.

A shard is a tar and, beside it, its manifest. The tar is renamed into place first and the manifest last, so a
shard exists if its manifest exists and agrees with the tar; whatever is killed in between leaves nothing that
counts. Everything in a manifest but ``made_by`` is the same whoever made the shard, and whenever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reelmill import config, durable
from reelmill.errors import DamagedError, RequestError
from reelmill.songs.store.direct_io import DirectFile
from reelmill.songs.store.tar import Member, TarWriter

Kind = Literal["text", "audio"]
KINDS: tuple[Kind, Kind] = ("text", "audio")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A song id without a song (text) or without sound (audio), and why."""

    id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished shard: ids ``first`` … ``first + count - 1``, of which ``failed`` have no members."""

    first: int
    count: int
    bytes: int
    sha256: str
    failed: list[Failure]
    attempts: dict[str, int]  # text only: attempts made, and how many of them passed each tier
    made_by: dict[str, Any]  # who, when, how fast; the only part that may differ

    @property
    def songs(self) -> int:
        """Number of songs (audio: of sounding songs) in the shard."""
        return self.count - len(self.failed)


def tar_path(directory: Path, kind: Kind, number: int) -> Path:
    """Where the tar of a shard lies in a songs directory."""
    return directory / kind / f"shard-{number:06d}.tar"


def manifest_path(directory: Path, kind: Kind, number: int) -> Path:
    """Where the manifest of a shard lies in a songs directory."""
    return tar_path(directory, kind, number).with_suffix(".json")


def member_name(song: int) -> str:
    """The name of a song's members, without their extension."""
    return f"{song:09d}"


def shard_numbers(directory: Path, kind: Kind) -> set[int]:
    """Numbers of the shards that have a manifest, whether it agrees or not."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name for path in (directory / kind).iterdir() if path.suffix == ".json"]
        return {int(name[6:-5]) for name in names if name.startswith("shard-") and name[6:-5].isdigit()}
    return set()


def has_leftovers(directory: Path, kind: Kind, number: int) -> bool:
    """Whether somebody began the tar of a shard and did not finish it, or has not yet."""
    path = tar_path(directory, kind, number)
    return any(durable.is_temporary(left) for left in path.parent.glob(f".{path.name}.*"))


def read_manifest(directory: Path, kind: Kind, number: int) -> Manifest:
    """The manifest of a shard; DamagedError if it is missing or not a manifest."""
    path = manifest_path(directory, kind, number)
    data = durable.read_json(path)
    try:
        return config.parse(Manifest, data, str(path))
    except RequestError as error:
        raise DamagedError(f"{path}: not a manifest ({str(error).splitlines()[0]})") from None


def check(directory: Path, kind: Kind, number: int, first: int, count: int) -> Manifest:
    """The manifest of shard ``number`` if it counts: it covers the ids it should and agrees with its tar.

    The tar's size always has to agree. Its SHA-256 is computed only if the tar was touched since its maker
    synced it; ``durable.verify_file`` checks it in any case. Raises DamagedError saying what is wrong.
    """
    manifest = read_manifest(directory, kind, number)
    if (manifest.first, manifest.count) != (first, count):
        raise DamagedError(
            f"{manifest_path(directory, kind, number)}: first {manifest.first}, count {manifest.count}, "
            f"should be first {first}, count {count}"
        )
    path = tar_path(directory, kind, number)
    with durable.reading(path):
        seen = path.stat()
    if seen.st_size != manifest.bytes or seen.st_mtime_ns != manifest.made_by.get("modified_ns"):
        durable.verify_file(path, manifest.bytes, manifest.sha256)
    return manifest


def discard(directory: Path, kind: Kind, number: int) -> Path:
    """Put a half of a shard aside, so that it counts no longer; where it is put.

    It is not removed: what made it may be gone, and most of its songs intact.
    """
    aside = directory / "damaged" / kind
    aside.mkdir(parents=True, exist_ok=True)
    for path in (manifest_path(directory, kind, number), tar_path(directory, kind, number)):
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside / path.name)
    durable.sync(directory / kind)
    return aside / tar_path(directory, kind, number).name


class Commit:
    """A shard being written: add members in order, then set what the manifest says."""

    def __init__(self, tar: TarWriter) -> None:
        self._tar = tar
        self.seconds = 0.0  # spent writing so far
        self.facts: dict[str, Any] = {}  # first, count, failed, attempts
        self.made_by: dict[str, Any] = {}

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Count how long the block takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began

    def add(self, name: str, *pieces: bytes | memoryview) -> None:
        """Append a member."""
        with self.writing():
            self._tar.add(name, *pieces)

    def add_all(self, members: Iterable[Member]) -> None:
        """Append members."""
        for name, pieces in members:
            self.add(name, *pieces)


@contextlib.contextmanager
def committing(directory: Path, kind: Kind, number: int) -> Iterator[Commit]:
    """A shard to fill; it is finished if the block ends well, and nothing of it counts otherwise.

    Raises RequestError if the disk is full, FileNotFoundError (ESTALE on NFS) if another worker finished the
    same shard and tidied up this one.
    """
    path = tar_path(directory, kind, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as ending, durable.replacing(path) as partial, DirectFile(partial) as file:
        tar = TarWriter(file)
        commit = Commit(tar)
        yield commit
        ending.enter_context(commit.writing())  # till all that is buffered is written, and synced
        tar.close()
    stages = {**commit.made_by.get("stages", {}), "writing": round(commit.seconds, 3)}
    manifest = {
        "first": commit.facts["first"],
        "count": commit.facts["count"],
        "bytes": tar.bytes,
        "sha256": tar.sha256,
        "failed": commit.facts["failed"],
        "attempts": commit.facts["attempts"],
        "made_by": {**commit.made_by, "stages": stages, "modified_ns": path.stat().st_mtime_ns},
    }
    durable.write_json(manifest_path(directory, kind, number), manifest)
    durable.remove_temporaries(path.parent, path.stem)

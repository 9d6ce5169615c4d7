"""Everything that can be wrong with one shard, found by reading all of it.

A problem is one line that names the file and says what is there and what should be. What is found intact can
be remembered (``Verified``).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.errors import DamagedError
from reelmill.songs.store.manifest import (
    KINDS,
    Kind,
    Manifest,
    manifest_path,
    member_name,
    read_manifest,
    tar_path,
)
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.reader import TEXT_MEMBERS
from reelmill.songs.store.tar import TarReader

FILE = ".verified.jsonl"


@dataclass(kw_only=True)
class Examination:
    """What was found in one shard, both halves."""

    shard: int
    missing: list[Kind] = field(default_factory=list)  # halves that have no manifest
    problems: dict[Kind, list[str]] = field(default_factory=lambda: {"text": [], "audio": []})
    songs: int = 0
    failed: int = 0
    silent: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def examine(directory: Path, number: int, first: int, count: int, audio_extension: str | None) -> Examination:
    """Read a shard of ids ``first`` … ``first + count - 1``; without ``audio_extension`` its text alone."""
    found = Examination(shard=number)
    text, facts = _examine_half(directory, "text", number, first, count, TEXT_MEMBERS, found)
    if text and not found.problems["text"]:
        found.songs, found.failed = text.songs, len(text.failed)
    if audio_extension:
        audio, heard = _examine_half(
            directory, "audio", number, first, count, (".abc", ".json", audio_extension), found
        )
        # Sound beside a damaged text is looked at again once that text is made anew.
        if text and audio and not found.problems["text"]:
            path = tar_path(directory, "audio", number)
            without = {failure.id for failure in text.failed}
            found.silent = len({failure.id for failure in audio.failed} - without)
            for song in sorted(facts.keys() | heard.keys()):
                _compare(path, song, facts.get(song), heard.get(song), found.problems["audio"])
    return found


class Verified:
    """The shards of a directory that a job has read in full and found intact, for its next start.

    Ten terabytes take hours to read, and a time limit should not make a job begin again. So each shard that
    is found intact becomes a line of a small file, with the sizes and times of its tars and the hashes of its
    manifests; as long as those are what they were, the job need not read it a second time. Nobody else
    believes this file: ``reelmill verify`` reads everything, always, for a disk can change a byte and no
    time. ``remember`` may be called by one process at a time.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._directory, self._plan = directory, plan
        self._lines = {line["shard"]: line for line in _remembered(directory / FILE)}

    def recall(self, shard: int) -> Examination | None:
        """What was found in a shard; None if nobody has read it since it was made."""
        line = self._lines.get(shard)
        if line is None or line["of"] != self.state(shard):
            return None
        return Examination(shard=shard, **line["found"])

    def state(self, shard: int) -> list[Any] | None:
        """What an examination holds for; to be asked before it begins. None if something is missing."""
        from reelmill.audio.encode import extension  # numpy comes with it, which examining does without

        plan = self._plan
        facts: list[Any] = [plan.first(shard), plan.count(shard)]
        facts.append(extension(plan.audio_settings) if plan.audio else None)
        try:
            for kind in KINDS if plan.audio else KINDS[:1]:
                seen = tar_path(self._directory, kind, shard).stat()
                listed = durable.sha256(manifest_path(self._directory, kind, shard))
                facts += [seen.st_size, seen.st_mtime_ns, listed]
        except OSError:
            return None
        return facts

    def remember(self, found: Examination, state: list[Any] | None) -> None:
        """Write down that a shard in this ``state`` was examined, unless something was wrong with it."""
        if state is None or found.missing or any(found.problems.values()):
            return
        counts = {name: getattr(found, name) for name in ("songs", "failed", "silent", "bytes")}
        line = {"shard": found.shard, "of": state, "found": counts}
        self._lines[found.shard] = line
        # What cannot be written, on a full disk, has to be read again by the next start, and no more.
        with contextlib.suppress(OSError), (self._directory / FILE).open("ab", buffering=0) as file:
            # Begun with the end of a line, for a kill may have left half of one.
            file.write(f"\n{json.dumps(line)}\n".encode())
            os.fsync(file.fileno())


def forget(directory: Path) -> None:
    """Remove the memory, once all is finished or nobody will go on."""
    (directory / FILE).unlink(missing_ok=True)


def _examine_half(
    directory: Path,
    kind: Kind,
    number: int,
    first: int,
    count: int,
    members: Sequence[str],
    found: Examination,
) -> tuple[Manifest | None, dict[int, dict[str, Any]]]:
    """The manifest and the facts of each song of one half; problems are added to ``found``."""
    path, listing = tar_path(directory, kind, number), manifest_path(directory, kind, number)
    problems = found.problems[kind]
    if not listing.exists():
        found.missing.append(kind)
        return None, {}
    try:
        manifest = read_manifest(directory, kind, number)
    except DamagedError as error:
        problems.append(str(error))
        return None, {}
    if (manifest.first, manifest.count) != (first, count):
        problems.append(
            f"{listing}: first {manifest.first}, count {manifest.count}, "
            f"should be first {first}, count {count}"
        )
        return None, {}
    failed = [failure.id for failure in manifest.failed]
    if len(set(failed)) != len(failed) or not set(failed) <= set(range(first, first + count)):
        problems.append(f"{listing}: lists a failed id twice, or one that is not its own")
    found.bytes += manifest.bytes
    return manifest, _read(path, manifest, set(failed), members, problems)


def _read(
    path: Path, manifest: Manifest, failed: set[int], members: Sequence[str], problems: list[str]
) -> dict[int, dict[str, Any]]:
    facts: dict[int, dict[str, Any]] = {}
    names: list[str] = []
    reader, abc = TarReader(path), b""
    try:
        with durable.reading(path):
            size = path.stat().st_size
        if size != manifest.bytes:
            raise DamagedError(f"{path}: {size} bytes, its manifest says {manifest.bytes}")
        for name, data in reader:
            names.append(name)
            if name.endswith(".abc"):
                abc = data
            elif name.endswith(".json"):
                song = _facts(path, name, data, abc, problems)
                facts.update({song["id"]: song} if song else {})
    except DamagedError as error:
        problems.append(str(error))
        return {}
    if reader.sha256 != manifest.sha256:
        problems.append(f"{path}: its SHA-256 is {reader.sha256}, its manifest says {manifest.sha256}")
    wanted = [
        member_name(song) + member
        for song in range(manifest.first, manifest.first + manifest.count)
        if song not in failed
        for member in members
    ]
    problems.extend(_member_problems(path, names, wanted))
    return facts


def _member_problems(path: Path, names: list[str], wanted: list[str]) -> list[str]:
    if names == wanted:
        return []
    seen, expected = Counter(names), set(wanted)
    lines = [f"{path}: {name} is missing" for name in wanted if name not in seen]
    lines += [f"{path}: {name} stands {count} times in it" for name, count in seen.items() if count > 1]
    lines += [f"{path}: {name} does not belong in it" for name in seen if name not in expected]
    return lines or [f"{path}: its members are not in order"]


def _facts(path: Path, name: str, data: bytes, abc: bytes, problems: list[str]) -> dict[str, Any] | None:
    try:
        facts = json.loads(data)
        if facts["id"] != int(name.split(".")[0]):
            problems.append(f"{path}: {name} speaks of id {facts['id']}")
        if facts["abc"].encode() != abc:
            problems.append(f"{path}: {name} holds another tune than the .abc beside it")
    except (ValueError, KeyError, TypeError, AttributeError):
        problems.append(f"{path}: {name} is not what it should be")
        return None
    return facts


def _compare(
    path: Path, song: int, text: dict[str, Any] | None, audio: dict[str, Any] | None, problems: list[str]
) -> None:
    if text is None:
        problems.append(f"{path}: song {song} has no text")
    elif audio is not None and any(audio.get(key) != value for key, value in text.items()):
        problems.append(f"{path}: song {song} is another one than in the text half")


def _remembered(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole, in order."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and {"shard", "of", "found"} <= value.keys():
            found.append(value)
    return found

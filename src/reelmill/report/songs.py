"""What the report needs of a songs directory: totals of all shards, facts of many songs, a few whole."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from reelmill.errors import DamagedError
from reelmill.songs.store.manifest import KINDS, Kind, Manifest, read_manifest, shard_numbers, tar_path
from reelmill.songs.store.plan import Plan, read_plan
from reelmill.songs.store.tar import read_some

FACTS_LIMIT = 20_000  # songs whose facts are read; more than plots need, and seconds however large the corpus


@dataclass(frozen=True, kw_only=True)
class Song:
    """A song whole: what its ID.json says, its audio file and its MIDI (b"" if there is none)."""

    facts: dict[str, Any]
    audio: bytes = b""
    midi: bytes = b""


@dataclass(kw_only=True)
class Songs:
    """A songs directory as far as it is finished."""

    directory: Path
    plan: Plan
    shards: dict[Kind, dict[int, Manifest]]
    facts: list[dict[str, Any]] = field(default_factory=list)  # of all songs, or of some shards
    damaged: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """Where songs are read: ``audio`` as soon as there is any."""
        return "audio" if self.shards["audio"] else "text"

    @property
    def made(self) -> int:
        """Songs made (their text)."""
        return sum(manifest.songs for manifest in self.shards["text"].values())

    @property
    def sounding(self) -> int:
        """Songs with audio."""
        return sum(manifest.songs for manifest in self.shards["audio"].values())

    @property
    def attempts(self) -> Counter[str]:
        """Attempts made and how many passed each tier."""
        attempts: Counter[str] = Counter()
        for manifest in self.shards["text"].values():
            attempts.update(manifest.attempts)
        return attempts

    def failures(self, kind: Kind) -> Counter[str]:
        """How many ids failed for which reason; for audio, of the ids that have a text."""
        failed = {half: self._failed(half) for half in KINDS}
        without_text = failed["text"] if kind == "audio" else {}
        return Counter(reason for song, reason in failed[kind].items() if song not in without_text)

    def _failed(self, kind: Kind) -> dict[int, str]:
        return {
            failure.id: failure.reason
            for manifest in self.shards[kind].values()
            for failure in manifest.failed
        }

    @property
    def seconds(self) -> float:
        """Time in which somebody was at work: that of shards made at once counts once."""
        spans = sorted(
            span for kind in KINDS for manifest in self.shards[kind].values() if (span := _span(manifest))
        )
        seconds, until = 0.0, 0.0
        for begin, end in spans:
            seconds += max(0.0, end - max(begin, until))
            until = max(until, end)
        return seconds

    def total(self, key: str) -> float:
        """The sum of a number over the songs, scaled up where only some were read."""
        values = [float(facts[key]) for facts in self.facts if key in facts]
        songs = sum(manifest.songs for manifest in self.shards[self.kind].values())
        return sum(values) / len(values) * songs if values else 0.0

    def sample(self, count: int) -> Iterator[Song]:
        """``count`` songs, evenly spread over those there are: always the same of the same directory."""
        manifests = self.shards[self.kind]
        total = sum(manifest.songs for manifest in manifests.values())
        count = min(count, total)
        ranks = [(2 * index + 1) * total // (2 * count) for index in range(count)]
        before = 0
        for number, manifest in sorted(manifests.items()):
            here = [rank - before for rank in ranks if before <= rank < before + manifest.songs]
            before += manifest.songs
            if here:
                yield from self._songs(number, manifest, here)

    def _songs(self, number: int, manifest: Manifest, ranks: list[int]) -> Iterator[Song]:
        failed = {failure.id for failure in manifest.failed}
        ids = [song for song in range(manifest.first, manifest.first + manifest.count) if song not in failed]
        path = tar_path(self.directory, self.kind, number)
        try:
            with tarfile.open(path, "r:") as tar:
                names: dict[str, dict[str, tarfile.TarInfo]] = {f"{ids[rank]:09d}": {} for rank in ranks}
                for member in tar:
                    stem, _, extension = member.name.partition(".")
                    if stem in names:
                        names[stem][extension] = member
                for members in names.values():
                    facts = json.loads(_read(tar, members["json"]))
                    sound = next(
                        (m for name, m in members.items() if name not in ("json", "abc", "mid")), None
                    )
                    midi = self._midi(number, f"{facts['id']:09d}.mid")
                    yield Song(facts=facts, audio=_read(tar, sound) if sound else b"", midi=midi)
        except (OSError, tarfile.TarError, KeyError, ValueError) as error:
            self.damaged.append(f"{path.name}: {error}")

    def _midi(self, number: int, name: str) -> bytes:
        """A song's MIDI, of the text half; b"" if that cannot be read."""
        try:
            members = read_some(tar_path(self.directory, "text", number), name.__eq__)
            return next((data for _, data in members), b"")
        except DamagedError:
            return b""


def _span(manifest: Manifest) -> tuple[float, float] | None:
    """When the making of a shard began and ended, in seconds since 1970; None if its maker did not say."""
    try:
        end = datetime.fromisoformat(manifest.made_by["finished"]).timestamp()
        return end - float(manifest.made_by["seconds"]), end
    except (KeyError, TypeError, ValueError):
        return None


def read_songs(directory: Path) -> Songs:
    """The finished part of a songs directory. Shards that cannot be read are named in ``damaged``."""
    songs = Songs(directory=directory, plan=read_plan(directory), shards={"text": {}, "audio": {}})
    for kind in KINDS:
        for number in sorted(shard_numbers(directory, kind)):
            try:
                songs.shards[kind][number] = read_manifest(directory, kind, number)
            except DamagedError as error:
                songs.damaged.append(str(error))
    songs.facts = list(_facts(songs))
    return songs


def _facts(songs: Songs) -> Iterator[dict[str, Any]]:
    manifests = songs.shards[songs.kind]
    total = sum(manifest.songs for manifest in manifests.values())
    every = max(1, -(-total // FACTS_LIMIT))
    for number in sorted(manifests)[::every]:
        path = tar_path(songs.directory, songs.kind, number)
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.name.endswith(".json"):
                        yield json.loads(_read(tar, member))
        except (OSError, tarfile.TarError, ValueError) as error:
            songs.damaged.append(f"{path.name}: {error}")


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} is not a file")
    return file.read()

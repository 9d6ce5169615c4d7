"""``reelmill audit``: make some songs of a directory again and compare every byte.

This is the promise itself, put to the test on the corpus at hand: song i is a function of the plan, so
whoever makes it again, alone and anywhere, gets what lies in the shard.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill import config as configuration
from reelmill.audio.encode import extension
from reelmill.errors import RequestError
from reelmill.songs.make.fingerprint import require_same_sound, tested_engine
from reelmill.songs.make.sampler import Sampler, make_songs
from reelmill.songs.make.sounds import Sounds
from reelmill.songs.store.manifest import Kind, member_name, read_manifest, shard_numbers, tar_path
from reelmill.songs.store.model_copy import kept_model
from reelmill.songs.store.plan import Plan, plan_path, read_plan
from reelmill.songs.store.song import Song, audio_members, text_members
from reelmill.songs.store.tar import Member, read_some


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Which songs were made again, and what differed: lines that name the shard and the member."""

    directory: Path
    seed: int  # that the ids were chosen by
    audited: list[int]
    with_sound: int  # how many of them had sound to compare
    differences: list[str]

    @property
    def identical(self) -> bool:
        """Whether every byte was the same."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {"identical": self.identical, **asdict(self), "directory": str(self.directory)}

    def describe(self) -> str:
        """A few lines for a person."""
        about = (
            f"{self.directory}: {len(self.audited)} songs made again, {self.with_sound} of them with sound"
        )
        return "\n".join([about, *(self.differences or ["the same bytes"])])


def audit(directory: Path, songs: int = 20, seed: int | None = None, overrides: Sequence[str] = ()) -> Audit:
    """Make ``songs`` random songs of the finished shards again and compare them with what lies there.

    ``overrides`` may only change how songs are computed (``sampling.slots``). Raises RequestError if nothing
    is finished, or on a machine that would make other bytes; DamagedError if a shard cannot be read.
    """
    if songs < 1:
        raise RequestError(f"--songs {songs}: at least 1")
    plan = read_plan(directory)
    planned = configuration.to_dict(plan.config())
    config = configuration.from_dict(planned, str(plan_path(directory)), overrides)
    differing = configuration.differences(plan.config(), config)
    if differing:
        raise RequestError(f"{differing[0][0]}: an audit makes the songs of the plan, with its settings")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    ids = _choose(directory, plan, songs, random.Random(seed))
    heard = shard_numbers(directory, "audio")
    model = kept_model(directory, plan.model)
    engine, sounds = tested_engine(directory, plan, config, model), Sounds(plan.audio_settings)
    if heard:
        require_same_sound(directory, plan.audio_settings)
    differences: list[str] = []
    with_sound = 0
    for song in make_songs(ids, Sampler(engine, plan)):
        shard = plan.shard_of(song.id)
        differences += _differences(directory, "text", shard, song, song.failure, text_members(song))
        if shard in heard:
            sound = sounds.record(song)
            with_sound += not song.failure
            members = audio_members(song, sound, extension(plan.audio_settings))
            differences += _differences(directory, "audio", shard, song, sound.failure, members)
    return Audit(directory=directory, seed=seed, audited=ids, with_sound=with_sound, differences=differences)


def _choose(directory: Path, plan: Plan, songs: int, generator: random.Random) -> list[int]:
    finished = [number for number in sorted(shard_numbers(directory, "text")) if number < plan.shards]
    if not finished:
        raise RequestError(f"{directory}: no finished shard to audit")
    ids: list[int] = []
    for number in finished:
        manifest = read_manifest(directory, "text", number)  # shorter than planned while the plan grows
        ids += range(manifest.first, manifest.first + manifest.count)
    return sorted(generator.sample(ids, min(songs, len(ids))))


def _differences(
    directory: Path, kind: Kind, shard: int, song: Song, failure: str, members: list[Member]
) -> list[str]:
    """What lies in the shard under a song's id and is not what was made again."""
    path = tar_path(directory, kind, shard)
    name = member_name(song.id)
    declared = {failed.id: failed.reason for failed in read_manifest(directory, kind, shard).failed}
    there = dict(read_some(path, lambda member: member.startswith(f"{name}.")))
    again = {member: b"".join(pieces) for member, pieces in members}
    lines = [
        f"{path}: {member} is {_size(there.get(member))}, made again {_size(again.get(member))}"
        for member in sorted(there.keys() | again.keys())
        if there.get(member) != again.get(member)
    ]
    if declared.get(song.id, "") != failure:
        lines.append(f"{path}: {name} failed with {declared.get(song.id)!r}, made again with {failure!r}")
    return lines


def _size(data: bytes | None) -> str:
    return "missing" if data is None else f"{len(data)} bytes ({hashlib.sha256(data).hexdigest()[:12]})"

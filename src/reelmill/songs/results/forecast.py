"""What a plan will take, before it starts: disk, hours, attempts and failures, measured on its first songs.

Hours are of sampling with every slot in use, of validating, of recording and of hashing, shared out among
processors: what a machine takes that does nothing else and whose disk keeps up.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reelmill import config as configuration
from reelmill.audio.encode import extension
from reelmill.config import Config
from reelmill.model import TrainedModel
from reelmill.resources import processors
from reelmill.room import free_bytes, size_text
from reelmill.runs import load_model, run_config
from reelmill.sampling.engine import Attempt, Engine
from reelmill.songs.make.generate import check_count, look_ahead
from reelmill.songs.make.progress import expected_failures
from reelmill.songs.make.sampler import Sampler, make_songs
from reelmill.songs.make.sounds import Sounds
from reelmill.songs.results.disk import TAKE_LESS, Disk
from reelmill.songs.store.manifest import KINDS, Kind, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.prompts import check_prompts
from reelmill.songs.store.song import TIERS, Song, audio_members, empty_tally, text_members
from reelmill.songs.store.tar import Member

_BLOCK = 512  # of a tar: each member has a header block and is filled up to whole blocks


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What ``songs`` songs will take, extrapolated from the first ``sample`` of the plan."""

    songs: int  # that are to be made
    sample: int
    attempts_per_song: float
    pass_rate: dict[str, float]  # of attempts, by tier
    failures: float  # ids that will have no song
    characters: float  # a song, on average
    seconds: float  # of music a song, on average
    text_bytes: int  # of all text tars
    audio_bytes: int  # of all audio tars; 0 if no sound is asked for
    free_bytes: int  # where the songs will lie
    processor_hours: tuple[float, float]  # from, to; on processors like this machine's
    processors: int  # of this machine

    @property
    def disk(self) -> Disk:
        """The bytes of both halves."""
        return Disk(self.text_bytes, self.audio_bytes)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it now."""
        return self.text_bytes + self.audio_bytes < self.free_bytes

    @property
    def failures_text(self) -> str:
        """How many ids will have no song, in words; empty if none is to be expected."""
        if self.failures < 0.5:
            return ""
        return f"about {self.failures:.0f} ids will have no song after songs.max_attempts"

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {**asdict(self), "fits": self.fits}

    def describe(self) -> str:
        """A few lines for a person."""
        low, high = (hours / self.processors for hours in self.processor_hours)
        rates = ", ".join(f"{tier} {rate:.1%}" for tier, rate in self.pass_rate.items())
        lines = [
            f"{self.songs:,} songs of about {self.characters:.0f} characters and {self.seconds:.1f} s "
            f"(measured on {self.sample})",
            f"disk: {size_text(self.text_bytes)} of text, {size_text(self.audio_bytes)} of sound; "
            f"{size_text(self.free_bytes)} are free",
            f"time: {hours_text(low, high)} with {self.processors} processors like these",
            f"{self.attempts_per_song:.2f} attempts a song; of attempts pass: {rates}",
        ]
        if self.failures_text:
            lines.append(self.failures_text)
        if not self.fits:
            lines.append(f"that does not fit; {TAKE_LESS}")
        return "\n".join(lines)


def hours_text(low: float, high: float) -> str:
    """A span of hours for a person, in seconds or minutes where it is short."""
    unit, factor = next(
        (unit for unit in (("hours", 1.0), ("minutes", 60.0)) if high * unit[1] >= 2), ("seconds", 3600.0)
    )
    return f"{low * factor:,.1f} to {high * factor:,.1f} {unit}"


def estimate(
    run: Path,
    out: Path,
    songs: int,
    overrides: Sequence[str] = (),
    checkpoint: str | None = None,
    audio: bool = True,
    seed: int = 0,
    sample: int = 32,
) -> Estimate:
    """Make the first ``sample`` songs in memory and extrapolate to ``songs``. Nothing is written to ``out``.

    Raises RequestError as ``generate`` does.
    """
    check_count(songs)
    config = configuration.from_dict(configuration.to_dict(run_config(run)), str(run), overrides)
    model = load_model(run, checkpoint)
    check_prompts(config, model)
    plan = Plan(
        seed=seed,
        songs=songs,
        audio=audio,
        sampling=config.sampling,
        audio_settings=config.audio,
        songs_settings=config.songs,
        model="",
        run=str(run),
        checkpoint="",
        fingerprint={},
    )
    return _extrapolate(plan, config, model, sample, {"text": songs, "audio": songs if audio else 0}, out)


def estimate_rest(
    directory: Path,
    songs: int | None = None,
    overrides: Sequence[str] = (),
    audio: bool = True,
    seed: int | None = None,
    checkpoint: str | None = None,
    sample: int = 32,
) -> Estimate:
    """The same of what a songs directory lacks, or will lack once it is to have ``songs``. It stays as it is.

    Shards count that have a manifest, damaged or not. Raises RequestError and DamagedError as ``generate``
    does.
    """
    plan, config, model = look_ahead(directory, songs, overrides, seed, checkpoint)
    missing = dict.fromkeys(KINDS, 0)
    for kind in KINDS if audio and plan.audio else KINDS[:1]:
        numbers = shard_numbers(directory, kind)
        made = (read_manifest(directory, kind, number).count for number in numbers if number < plan.shards)
        missing[kind] = plan.songs - sum(made)  # ids: one that is declared to have no song is not made again
    return _extrapolate(plan, config, model, sample, missing, directory)


def _extrapolate(
    plan: Plan, config: Config, model: TrainedModel, sample: int, missing: dict[Kind, int], out: Path
) -> Estimate:
    """What the songs ``missing`` in each half will take, by the first of the plan."""
    took = dict.fromkeys(KINDS, 0)
    recording = 0.0
    engine, sounds = Engine(model, config.sampling, plan.seed), Sounds(config.audio)
    sampler = Sampler(engine, plan)
    made = list(make_songs(range(min(sample, plan.songs)), sampler))
    for song in made:
        took["text"] += _tar_bytes(text_members(song))
    heard = [song for song in made if not song.failure] if missing["audio"] else []
    for song in heard[:1]:
        sounds.record(song)  # which loads the synthesizer: no song's work
    for song in heard:
        began = time.monotonic()
        members = audio_members(song, sounds.record(song), extension(config.audio))
        _hash(members)
        recording += time.monotonic() - began
        took["audio"] += _tar_bytes(members)
    tally = Counter(empty_tally())
    for song in made:
        tally.update(song.tally)
    valid = [song.facts for song in made if not song.failure]
    passed = len(valid) / tally["made"]
    work = _Work(
        sampling=engine.characters / tally["made"] * _sampling_seconds(model, config, plan.seed),
        validating=sampler.seconds["validating"] / tally["made"],
        recording=recording / max(1, len(heard)),
    )
    return Estimate(
        songs=max(missing.values()),
        sample=len(made),
        attempts_per_song=tally["made"] / len(made),
        pass_rate={tier: tally[tier] / tally["made"] for tier in TIERS},
        failures=missing["text"] * expected_failures(passed, plan.songs_settings.max_attempts),
        characters=sum(facts["characters"] for facts in valid) / max(1, len(valid)),
        seconds=sum(facts["midi_seconds"] for facts in valid) / max(1, len(valid)),
        text_bytes=round(took["text"] * missing["text"] / len(made)),
        audio_bytes=round(took["audio"] * missing["audio"] / len(made)),
        free_bytes=free_bytes(out),
        processor_hours=_hours(made, work, missing),
        processors=processors(),
    )


@dataclass(frozen=True)
class _Work:
    """Processor seconds: of sampling and of validating an attempt, and of recording a song."""

    sampling: float
    validating: float
    recording: float


def _hours(made: Sequence[Song], work: _Work, missing: dict[Kind, int]) -> tuple[float, float]:
    """Two standard errors to either side of what the songs that are ``missing`` take, by those ``made``."""
    attempts = np.array([song.tally["made"] for song in made])
    seconds = missing["text"] * attempts * (work.sampling + work.validating)
    seconds = seconds + missing["audio"] * work.recording * np.array([not song.failure for song in made])
    # As many characters as a tune, and as many seconds of sound, are the larger part of what differs.
    lengths = np.array([song.facts["characters"] for song in made if not song.failure])
    error = np.hypot(_relative_error(seconds), _relative_error(lengths))
    mean = float(seconds.mean()) / 3600
    return mean * max(0.0, 1 - 2 * error), mean * (1 + 2 * error)


def _relative_error(values: NDArray[np.float64]) -> float:
    """The standard error of the mean, as a part of it."""
    if len(values) < 2 or not values.mean():
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(len(values)) / values.mean())


def _sampling_seconds(model: TrainedModel, config: Config, seed: int) -> float:
    """Processor seconds a character with every slot in use: all are, until the first attempt is finished."""
    engine = Engine(model, config.sampling, seed)
    for song in range(engine.slots):
        engine.submit(Attempt(song))
    began = time.process_time()
    first = engine.step()
    return (time.process_time() - began) / engine.slots / max(1, int(first.lengths.max()))


def _hash(members: list[Member]) -> None:
    for _, pieces in members:
        hashed = hashlib.sha256()
        for piece in pieces:
            hashed.update(piece)


def _tar_bytes(members: list[Member]) -> int:
    return sum(_BLOCK + -(-sum(map(len, pieces)) // _BLOCK) * _BLOCK for _, pieces in members)

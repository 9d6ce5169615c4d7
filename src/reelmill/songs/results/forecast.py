"""What a plan will take, before it starts: disk, attempts and failures, measured on its own first songs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill import config as configuration
from reelmill.audio.encode import extension
from reelmill.config import Config
from reelmill.model import TrainedModel
from reelmill.room import free_bytes, size_text
from reelmill.runs import load_model, run_config
from reelmill.sampling.engine import Engine
from reelmill.songs.make.generate import check_count, check_prompts, look_ahead
from reelmill.songs.make.progress import expected_failures
from reelmill.songs.make.sampler import Sampler, make_songs
from reelmill.songs.make.sounds import Sounds
from reelmill.songs.results.disk import TAKE_LESS, Disk
from reelmill.songs.store.manifest import KINDS, Kind, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan
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
        rates = ", ".join(f"{tier} {rate:.1%}" for tier, rate in self.pass_rate.items())
        lines = [
            f"{self.songs:,} songs of about {self.characters:.0f} characters and {self.seconds:.1f} s "
            f"(measured on {self.sample})",
            f"disk: {size_text(self.text_bytes)} of text, {size_text(self.audio_bytes)} of sound; "
            f"{size_text(self.free_bytes)} are free",
            f"{self.attempts_per_song:.2f} attempts a song; of attempts pass: {rates}",
        ]
        if self.failures_text:
            lines.append(self.failures_text)
        if not self.fits:
            lines.append(f"that does not fit; {TAKE_LESS}")
        return "\n".join(lines)


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
    made: list[Song] = []
    took = dict.fromkeys(KINDS, 0)
    sampler, sounds = Sampler(Engine(model, config.sampling, plan.seed), plan), Sounds(config.audio)
    for song in make_songs(range(min(sample, plan.songs)), sampler):
        made.append(song)
        took["text"] += _tar_bytes(text_members(song))
        if missing["audio"] and not song.failure:
            members = audio_members(song, sounds.record(song), extension(config.audio))
            took["audio"] += _tar_bytes(members)
    tally = Counter(empty_tally())
    for song in made:
        tally.update(song.tally)
    valid = [song.facts for song in made if not song.failure]
    passed = len(valid) / tally["made"]
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
    )


def _tar_bytes(members: list[Member]) -> int:
    return sum(_BLOCK + -(-sum(map(len, pieces)) // _BLOCK) * _BLOCK for _, pieces in members)

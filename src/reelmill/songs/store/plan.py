"""The plan of a songs directory: everything that decides what its songs are, in one small file.

``plan.json`` is created once, by whoever comes first; everyone after that must want the same, and is refused
by key where they don't. Only two things may change: ``songs`` may grow, and sound may be added to a directory
that was made without. The model is a copy in ``model/``, named in the plan by its hash, so that the songs
outlive the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reelmill import config as configuration
from reelmill import durable
from reelmill.audio.settings import AudioSettings
from reelmill.config import Config
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import PLAN
from reelmill.lock import exclusive
from reelmill.sampling.settings import SamplingSettings
from reelmill.settings import compute_keys
from reelmill.songs.settings import SongsSettings
from reelmill.songs.store.prompts import prompt_text
from reelmill.tracking.settings import TrackingSettings

_LOCK = ".plan.lease"
SECTIONS = ("sampling", "audio", "songs")
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a songs directory is to hold, and the three sections of settings that decide what a song is."""

    seed: int
    songs: int
    audio: bool  # whether the songs are to have sound
    sampling: SamplingSettings
    audio_settings: AudioSettings
    songs_settings: SongsSettings
    model: str  # ``model_hash`` of the model
    run: str  # where the model came from
    checkpoint: str  # the name of the run's one that is the model
    fingerprint: dict[str, dict[str, str]]  # of the text half, and of the audio half once somebody made sound
    # Of the run, so that every worker reports to the same place.
    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.songs // self.songs_settings.songs_per_shard)

    def first(self, shard: int) -> int:
        """The first id of a shard."""
        return shard * self.songs_settings.songs_per_shard

    def count(self, shard: int) -> int:
        """How many ids a shard covers: all full but the last."""
        return min(self.songs_settings.songs_per_shard, self.songs - self.first(shard))

    def shard_of(self, song: int) -> int:
        """The shard that covers an id."""
        return song // self.songs_settings.songs_per_shard

    def prompt(self, song: int) -> str:
        """What song ``song`` begins with."""
        prompts = self.songs_settings.prompts
        return prompt_text(prompts[song % len(prompts)]) if prompts else ""

    def config(self) -> Config:
        """The plan's settings as a config; what only says how a result is computed has its default."""
        return Config(
            sampling=self.sampling,
            audio=self.audio_settings,
            songs=self.songs_settings,
            tracking=self.tracking,
        )


def plan_path(directory: Path) -> Path:
    """Where the plan of a songs directory lies."""
    return directory / PLAN


def model_path(directory: Path) -> Path:
    """Where the model's copy of a songs directory lies."""
    return directory / "model"


def read_plan(directory: Path) -> Plan:
    """The plan of ``directory``; RequestError if there is none, DamagedError if it cannot be read."""
    path = plan_path(directory)
    if not path.is_file():
        raise RequestError(f"{path}: no such file; reelmill generate RUN --songs N --out DIR makes one")
    try:
        data = durable.read_json(path)
        if data["version"] != _VERSION:
            raise RequestError(f"{path}: version {data['version']}, this reelmill reads {_VERSION}")
        sections = {name: dict(data["settings"][name]) for name in SECTIONS}
        sections["songs"]["songs_per_shard"] = data["songs_per_shard"]
        sections["tracking"] = data.get("tracking", {})
        config = configuration.from_dict(sections, source=str(path))
        return Plan(
            seed=int(data["seed"]),
            songs=int(data["songs"]),
            audio=bool(data["audio"]),
            sampling=config.sampling,
            audio_settings=config.audio,
            songs_settings=config.songs,
            model=str(data["model"]),
            run=str(data["run"]),
            checkpoint=str(data["checkpoint"]),
            fingerprint={half: dict(facts) for half, facts in data["fingerprint"].items()},
            tracking=config.tracking,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path}: not a plan ({type(error).__name__}: {error})") from None


def create_plan(directory: Path, wanted: Plan) -> Plan:
    """Put ``wanted`` into ``directory`` unless there is a plan already; returns the one that is there.

    Any number of creators may race: one plan is written, whole, and the others get it back.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = plan_path(directory)
    partial = durable.temporary(path)
    try:
        partial.write_text(_to_json(wanted))
        durable.sync(partial)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(partial, path)  # unlike a rename, refuses to replace another's plan
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                with exclusive(directory / _LOCK):  # a file system without hard links
                    if not path.exists():
                        partial.replace(path)
            durable.sync(directory)
    except OSError as error:
        durable.raise_explained(error, path)
    finally:
        partial.unlink(missing_ok=True)
    return read_plan(directory)


def grow_plan(
    directory: Path,
    songs: int = 0,
    audio: AudioSettings | None = None,
    fingerprint: dict[str, dict[str, str]] | None = None,
) -> Plan:
    """Let the plan ask for more ``songs``, for ``audio`` with these settings if it was made without, and add
    the ``fingerprint`` of a half that had none. Returns the plan then in force.

    Never takes anything away: of two that grow the same plan at once, the larger number stays.
    """
    with exclusive(directory / _LOCK):
        plan = grown = read_plan(directory)
        if songs > plan.songs:
            grown = replace(grown, songs=songs)
        if audio is not None and not plan.audio:
            grown = replace(grown, audio=True, audio_settings=audio)
        if fingerprint:
            grown = replace(grown, fingerprint={**fingerprint, **plan.fingerprint})
        if grown != plan:
            durable.write_text(plan_path(directory), _to_json(grown))
    return grown


def require_equal(directory: Path, plan: Plan, wanted: Plan) -> None:
    """Refuse to go on with ``plan`` if ``wanted`` means other songs; RequestError names every key."""
    lines = [
        f"{key} is {before!r} in the plan and {after!r} here"
        for key, before, after in [
            *configuration.differences(plan.config(), wanted.config(), SECTIONS),
            ("seed", plan.seed, wanted.seed),
            ("model", plan.model[:12], wanted.model[:12]),
        ]
        if before != after
    ]
    if wanted.songs < plan.songs:
        lines.append(f"songs is {plan.songs} in the plan and {wanted.songs} here: a plan can only grow")
    if lines:
        raise RequestError(
            f"{plan_path(directory)} plans other songs: {'; '.join(lines)}. "
            "Use another directory, or go on with the plan as it is: reelmill generate DIR"
        )


def _to_json(plan: Plan) -> str:
    settings = {
        "sampling": _meaningful(plan.sampling),
        "audio": _meaningful(plan.audio_settings),
        "songs": _meaningful(plan.songs_settings),
    }
    data: dict[str, Any] = {
        "version": _VERSION,
        "seed": plan.seed,
        "songs": plan.songs,
        "songs_per_shard": settings["songs"].pop("songs_per_shard"),
        "audio": plan.audio,
        "settings": settings,
        "model": plan.model,
        "run": plan.run,
        "checkpoint": plan.checkpoint,
        "fingerprint": plan.fingerprint,
        "tracking": dataclasses.asdict(plan.tracking),
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _meaningful(settings: Any) -> dict[str, Any]:
    compute = compute_keys(type(settings))
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in compute}

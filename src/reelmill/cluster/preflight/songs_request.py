"""What is asked of a cluster when songs are asked for, and what that will take."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelmill.cluster.settings import ClusterSettings
from reelmill.config import Config, from_dict, to_dict
from reelmill.errors import RequestError
from reelmill.room import free_bytes, size_text

if TYPE_CHECKING:
    from reelmill.songs.results.disk import Disk


@dataclass(frozen=True)
class Songs:
    """What is asked for: so many songs of ``run`` in ``out``, by ``tasks`` tasks."""

    run: Path
    out: Path
    songs: int
    tasks: int
    seed: int = 0
    audio: bool = True
    overrides: Sequence[str] = ()  # of sampling, songs and audio

    def facts(self) -> dict[str, Any]:
        """For ``job.json``."""
        return {
            "run": str(self.run.absolute()),
            "songs": self.songs,
            "seed": self.seed,
            "audio": self.audio,
            "overrides": list(self.overrides),
        }


def songs_of(job: Mapping[str, Any]) -> Songs:
    """What a collect job's ``job.json`` says was asked for."""
    return Songs(
        run=Path(job["run"]),
        out=Path(job["directory"]),
        songs=job["songs"],
        tasks=job["array_tasks"],
        seed=job["seed"],
        audio=job["audio"],
        overrides=job["overrides"],
    )


@dataclass(frozen=True)
class Room:
    """What the disk that the songs will take and what is free for them comes to, in words."""

    line: str
    fitting: str  # what would fit; "" if all fits

    def refuse_too_large(self) -> None:
        """RequestError with the figures, and what would fit, if the songs do not."""
        if self.fitting:
            raise RequestError(f"{self.line}\n{self.fitting}; --force submits all the same")


def disk_room(songs: Songs, config: Config, settings: ClusterSettings, trained: bool) -> Room:
    """Foretell the disk that the songs will take, and compare it with what is free.

    Their own shards tell it best, then the first songs of a ``trained`` model, then the settings.
    """
    from reelmill.songs.results.disk import describe_disk, disk_of_shards, foretell_disk

    basis, more = "as the shards that are there", ""
    disk = disk_of_shards(songs.out, config, songs.songs, songs.audio)
    if disk is None and (not trained or settings.python):  # a container may have programs that are not here
        basis, disk = "estimated from the settings", foretell_disk(config, songs.songs, songs.audio)
    elif disk is None:
        from reelmill.songs.results.forecast import estimate, hours_text

        print("measuring the first songs, for the disk that all will take …", file=sys.stderr, flush=True)
        overrides = [*songs.overrides, "sampling.device=cpu"]  # the nodes' device may not be here
        found = estimate(songs.run, songs.out, songs.songs, overrides, audio=songs.audio, seed=songs.seed)
        basis, disk = f"measured on the first {found.sample}", found.disk
        more = f"; {found.failures_text}" if found.failures_text else ""
        if not settings.gpus_per_node:  # which sample at a rate that is not known here
            processors = songs.tasks * settings.cpus_per_task
            low, high = (hours / processors for hours in found.processor_hours)
            more += f"; {hours_text(low, high)} by {processors} processors like those here"
    line = describe_disk(songs.out, songs.songs, disk, basis) + more
    there = sum(path.stat().st_size for path in songs.out.glob("*/shard-*.tar"))
    most = there + free_bytes(songs.out)
    return Room(line, "" if disk.total < most else _fitting(songs, config, disk, most))


def _fitting(songs: Songs, config: Config, disk: Disk, most: int) -> str:
    """What takes less than ``most`` bytes, in words, by how ``disk`` would shrink with other settings."""
    from reelmill.songs.results.disk import foretell_disk

    now = foretell_disk(config, songs.songs, songs.audio)
    audio = config.audio
    ways: list[tuple[str, float]] = []
    if songs.audio:
        flac = dataclasses.replace(audio, format="flac")
        for words, smaller in (
            ("audio.format=flac", flac),
            ("audio.format=flac audio.channels=1", dataclasses.replace(flac, channels=1)),
        ):
            sound = foretell_disk(dataclasses.replace(config, audio=smaller), songs.songs).audio
            ways.append((words, disk.text + disk.audio * sound / now.audio))
        ways.append(("--no-audio", disk.text))
    ways.append((f"--songs {int(songs.songs * most / disk.total):,}".replace(",", ""), 0.0))
    fit = [f"{words} ({size_text(round(size))})" if size else words for words, size in ways if size < most]
    return f"what would fit: {', '.join(fit)}"


def say_idle(songs: Songs, config: Config) -> None:
    """Tell a person who asks for more tasks than there are shards."""
    shards = -(-songs.songs // config.songs.songs_per_shard)
    if songs.tasks > shards:
        print(
            f"--tasks {songs.tasks}: {songs.songs:,} songs are {shards} shards (songs.songs_per_shard = "
            f"{config.songs.songs_per_shard}), so {songs.tasks - shards} tasks will find nothing to do",
            file=sys.stderr,
        )


def run_settings(songs: Songs) -> Config:
    """The settings that songs of a trained run will have."""
    from reelmill.runs import run_config

    return from_dict(to_dict(run_config(songs.run)), str(songs.run), songs.overrides)


def made_as(config: Config, songs: Songs) -> Songs:
    """``songs`` with all that ``config`` says of them, as overrides.

    A plan does not hold what only says how songs are made, and the configuration in a run is that of the day
    it was trained.
    """
    asked = {name: dataclasses.asdict(getattr(config, name)) for name in ("sampling", "songs", "tracking")}
    asked["audio"] = dataclasses.asdict(config.audio) if songs.audio else {"tempo": config.audio.tempo}
    return dataclasses.replace(
        songs,
        overrides=[
            f"{section}.{key}={json.dumps(value, ensure_ascii=False)}"
            for section, values in asked.items()
            for key, value in values.items()
        ],
    )

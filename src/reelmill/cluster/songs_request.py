"""What is asked of a cluster when songs are asked for, and what that will take."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster.settings import ClusterSettings
from reelmill.config import Config, from_dict, to_dict


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


def disk_line(songs: Songs, config: Config, settings: ClusterSettings, trained: bool) -> str:
    """The disk that the songs will take, as a line for a person.

    Their own shards tell it best, then the first songs of a ``trained`` model, then the settings.
    """
    from reelmill.songs.results.disk import describe_disk, disk_of_shards, foretell_disk

    disk = disk_of_shards(songs.out, config, songs.songs, songs.audio)
    if disk is not None:
        return describe_disk(songs.out, songs.songs, disk, "as the shards that are there")
    if not trained or settings.python:  # a container's Python may have programs that are not here
        disk = foretell_disk(config, songs.songs, songs.audio)
        return describe_disk(songs.out, songs.songs, disk, "estimated from the settings")
    from reelmill.songs.results.forecast import estimate

    print("measuring the first songs, for the disk that all will take …", file=sys.stderr, flush=True)
    overrides = [*songs.overrides, "sampling.device=cpu"]  # the nodes' device may not be here
    found = estimate(songs.run, songs.out, songs.songs, overrides, audio=songs.audio, seed=songs.seed)
    line = describe_disk(songs.out, songs.songs, found.disk, f"measured on the first {found.sample}")
    return f"{line}; {found.failures_text}" if found.failures_text else line


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
    sections = ["sampling", "songs", "tracking", *(["audio"] if songs.audio else [])]
    return dataclasses.replace(
        songs,
        overrides=[
            f"{section}.{key}={json.dumps(value, ensure_ascii=False)}"
            for section in sections
            for key, value in dataclasses.asdict(getattr(config, section)).items()
        ],
    )

"""How a songs directory stands: its manifests say what is done, its leases who is making what."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster.status import Jobs, describe_jobs, duration, jobs_of
from reelmill.errors import DamagedError
from reelmill.songs.figures import songs_per_second
from reelmill.songs.leases import read_leases
from reelmill.songs.outcome import count_half
from reelmill.songs.plan import Plan, read_plan
from reelmill.songs.shards import Kind, Manifest, read_manifest, shard_numbers

_SHOWN = 3


@dataclass(frozen=True)
class SongsStatus:
    """How far the songs have come. ``failed`` and ``silent`` count ids by reason; rates are in songs a
    second.
    """

    directory: str
    planned: int
    songs: int
    shards: int
    text_shards: int
    audio_shards: int | None  # None: no sound is planned
    failed: dict[str, int]
    silent: dict[str, int]
    songs_per_second: float | None
    seconds_left: float | None
    running: list[dict[str, Any]]  # live leases: shard, share, host, songs, age in seconds
    stale: list[int]  # shards whose lease nobody renews
    slowest: list[dict[str, Any]]  # share, host, songs_per_second
    jobs: Jobs

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        lines = [f"{self.directory}: {self.songs:,} of {self.planned:,} songs, {self._shards()}"]
        if self.songs_per_second:
            left = f", {duration(self.seconds_left)} left" if self.seconds_left else ""
            lines.append(f"rate: {self.songs_per_second:.1f} songs/s{left}")
        for what, counted in (("ids have no song", self.failed), ("songs have no sound", self.silent)):
            if counted:
                reasons = ", ".join(f"{reason} ({count})" for reason, count in list(counted.items())[:_SHOWN])
                lines.append(f"{sum(counted.values()):,} {what}: {reasons}")
        if self.running:
            lines.append(f"{len(self.running)} shards in hand")
        if self.stale:
            lines.append(f"{len(self.stale)} shards begun by tasks that are gone; others take them over")
        if len(self.slowest) > 1:
            shown = (
                f"{task['share']} on {task['host']} ({task['songs_per_second']:.1f}/s)"
                for task in self.slowest
            )
            lines.append(f"slowest tasks: {', '.join(shown)}")
        return "\n".join([*lines, *describe_jobs(self.jobs)])

    def _shards(self) -> str:
        done = f"{self.text_shards} of {self.shards} shards"
        return done if self.audio_shards is None else f"{done} of text, {self.audio_shards} of audio"


def songs_status(directory: Path, now: float | None = None) -> SongsStatus:
    """The status of a songs directory. ``now`` is in seconds since 1970 (default: the clock's).

    Raises RequestError if there is no plan in it.
    """
    plan = read_plan(directory)
    text = count_half(directory, plan, "text")
    audio = count_half(directory, plan, "audio") if plan.audio else None
    last: Kind = "audio" if plan.audio else "text"
    manifests = _manifests(directory, plan, last)
    covered = sum(manifest.count for manifest in manifests)
    rate = songs_per_second(manifests, now or time.time())
    leases = read_leases(directory)
    return SongsStatus(
        directory=str(directory),
        planned=plan.songs,
        songs=text.songs,
        shards=plan.shards,
        text_shards=text.shards,
        audio_shards=audio.shards if audio else None,
        failed=_by_reason(text.failed),
        silent=_by_reason(
            {song: why for song, why in audio.failed.items() if song not in text.failed} if audio else {}
        ),
        songs_per_second=rate,
        seconds_left=(plan.songs - covered) / rate if rate else None,
        running=[
            {**lease.facts, "shard": lease.shard, "age": round(lease.age)} for lease in leases if lease.live
        ],
        stale=[lease.shard for lease in leases if not lease.live],
        slowest=_slowest(manifests),
        jobs=jobs_of(directory),
    )


def _manifests(directory: Path, plan: Plan, kind: Kind) -> list[Manifest]:
    found = []
    for number in sorted(shard_numbers(directory, kind)):
        if number < plan.shards:
            with contextlib.suppress(DamagedError):
                found.append(read_manifest(directory, kind, number))
    return found


def _slowest(manifests: list[Manifest]) -> list[dict[str, Any]]:
    rates: dict[tuple[str, str], list[float]] = {}
    for manifest in manifests:
        made_by = manifest.made_by
        if "songs_per_second" in made_by:
            key = (str(made_by.get("share", "?")), str(made_by.get("host", "?")))
            rates.setdefault(key, []).append(float(made_by["songs_per_second"]))
    means = sorted((sum(values) / len(values), *key) for key, values in rates.items())
    return [
        {"share": share, "host": host, "songs_per_second": round(mean, 2)}
        for mean, share, host in means[:_SHOWN]
    ]


def _by_reason(failures: dict[int, str]) -> dict[str, int]:
    return dict(Counter(failures.values()).most_common())

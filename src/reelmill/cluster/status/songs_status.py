"""How a songs directory stands: its manifests say what is done, its leases who is making what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.cluster.status.job_status import Jobs, describe_jobs, duration, jobs_of
from reelmill.cluster.submission import JOB, submissions
from reelmill.errors import DamagedError
from reelmill.songs.results.throughput import songs_per_second
from reelmill.songs.store.leases import Lease, read_leases
from reelmill.songs.store.manifest import Kind, Manifest, read_manifest, shard_numbers, tar_path
from reelmill.songs.store.plan import Plan, read_plan
from reelmill.songs.store.totals import count_half

_SHOWN = 3


@dataclass(frozen=True)
class SongsStatus:
    """How far the songs have come: ids by reason (``failed``, ``silent``), rates in songs a second.

    A shard is made, in somebody's hands (``running``), or ``missing``; ``stale`` ones are among the missing.
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
    missing: list[int]  # shards that nobody is making
    stale: list[int]  # shards whose lease nobody renews
    damaged: list[int]  # shards whose size is not what their manifest says, or that cannot be read
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
        lines += self._tasks()
        if self.missing:
            gone = f", {len(self.stale)} of them begun by tasks that are gone" if self.stale else ""
            lines.append(f"missing: {len(self.missing):,} shards in nobody's hands{gone}")
            if not self.running and not self.jobs.more_to_come:
                lines.append(f"if no task is starting, `reelmill generate {self.directory}` makes them")
        if self.damaged:
            lines.append(
                f"damaged: shards {_listed(self.damaged)}; `reelmill verify {self.directory}` says how"
            )
        if len(self.slowest) > 1:
            shown = (
                f"{task['share']} on {task['host']} ({task['songs_per_second']:.1f}/s)"
                for task in self.slowest
            )
            lines.append(f"slowest tasks: {', '.join(shown)}")
        return "\n".join([*lines, *describe_jobs(self.jobs)])

    def _tasks(self) -> list[str]:
        """Who is at work, how many shards each has in hand, and the songs of those that are done."""
        if not self.running:
            return []
        shards = Counter(f"{one.get('share', '?')} on {one.get('host', '?')}" for one in self.running)
        songs = sum(one.get("songs", 0) for one in self.running)
        names = _listed([f"{task} ({count})" for task, count in shards.most_common()])
        return [
            f"running: {len(self.running):,} shards in the hands of {len(shards)} tasks, "
            f"{songs:,} songs of them done: {names}"
        ]

    def _shards(self) -> str:
        done = f"{self.text_shards} of {self.shards} shards"
        return done if self.audio_shards is None else f"{done} of text, {self.audio_shards} of audio"


@dataclass(frozen=True)
class QueuedSongs:
    """Songs that are queued but not planned yet, since their ``run`` has to be trained first."""

    directory: str
    asked: int
    run: str
    jobs: Jobs

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return asdict(self)

    def describe(self) -> str:
        """Lines for a person."""
        waiting = f"{self.directory}: {self.asked:,} songs asked for, not planned yet"
        trained = f"they are planned once {self.run} is trained; see `reelmill status {self.run}`"
        return "\n".join([waiting, trained, *describe_jobs(self.jobs)])


def queued_songs(directory: Path) -> QueuedSongs | None:
    """The status of a songs directory that a chain of jobs will plan; None if there is no such chain."""
    for item in reversed(submissions(directory)):
        if item["stage"] == "plan":
            job = durable.read_json(Path(item["folder"]) / JOB)
            return QueuedSongs(str(directory), job["songs"], job["run"], jobs_of(directory))
    return None


def songs_status(directory: Path, now: float | None = None) -> SongsStatus:
    """The status of a songs directory. ``now`` is in seconds since 1970 (default: the clock's).

    Raises RequestError if there is no plan in it.
    """
    plan = read_plan(directory)
    # What is made last is read first, so that it is never ahead of what is made first.
    audio = count_half(directory, plan, "audio") if plan.audio else None
    manifests, damaged = _manifests(directory, plan, "audio" if plan.audio else "text")
    text = count_half(directory, plan, "text")
    rate = songs_per_second(manifests.values(), now or time.time())
    leases = [lease for lease in read_leases(directory) if lease.shard not in manifests]
    running = [lease for lease in leases if lease.live]
    in_hand = {lease.shard for lease in running}
    silent = {song: why for song, why in audio.failed.items() if song not in text.failed} if audio else {}
    covered = sum(manifest.count for manifest in manifests.values())
    covered += sum(int(lease.facts.get("songs", 0)) for lease in running)
    return SongsStatus(
        directory=str(directory),
        planned=plan.songs,
        songs=text.songs,
        shards=plan.shards,
        text_shards=text.shards,
        audio_shards=audio.shards if audio else None,
        failed=_by_reason(text.failed),
        silent=_by_reason(silent),
        songs_per_second=rate,
        seconds_left=max(0, plan.songs - covered) / rate if rate else None,
        running=[{**lease.facts, "shard": lease.shard, "age": round(lease.age)} for lease in running],
        missing=sorted(set(range(plan.shards)) - set(manifests) - in_hand),
        stale=[lease.shard for lease in leases if not lease.live],
        damaged=damaged,
        slowest=_slowest(manifests.values(), running),
        jobs=jobs_of(directory),
    )


def _manifests(directory: Path, plan: Plan, kind: Kind) -> tuple[dict[int, Manifest], list[int]]:
    """The manifests of finished shards by number, and the shards that are damaged as far as sizes tell."""
    found, damaged = {}, []
    for number in sorted(shard_numbers(directory, kind)):
        if number < plan.shards:
            try:
                manifest = read_manifest(directory, kind, number)
                intact = tar_path(directory, kind, number).stat().st_size == manifest.bytes
            except (DamagedError, OSError):
                intact = False
            if not intact:
                damaged.append(number)
            elif manifest.count == plan.count(number):  # else the plan has grown since
                found[number] = manifest
    return found, damaged


def _slowest(manifests: Iterable[Manifest], running: Iterable[Lease]) -> list[dict[str, Any]]:
    """Tasks by songs a second of their own clock, the slowest first. A task's workers share its time.

    What a task has in hand counts once it has taken longer than a shard usually does: songs are finished many
    at once, so whoever has just begun has none.
    """
    spent: dict[tuple[str, str], tuple[int, float]] = {}
    timed = [manifest for manifest in manifests if "seconds" in manifest.made_by]
    for manifest in timed:
        songs, seconds = spent.get(_task(manifest.made_by), (0, 0.0))
        seconds += float(manifest.made_by["seconds"]) / max(1, int(manifest.made_by.get("workers", 1)))
        spent[_task(manifest.made_by)] = songs + manifest.count, seconds
    usual = sum(float(manifest.made_by["seconds"]) for manifest in timed) / max(1, len(timed))
    for task, (songs, seconds) in _in_hand(running).items():
        if timed and seconds > usual:
            before = spent.get(task, (0, 0.0))
            spent[task] = before[0] + songs, before[1] + seconds
    rates = sorted((songs / max(seconds, 0.001), *key) for key, (songs, seconds) in spent.items())
    return [
        {"share": share, "host": host, "songs_per_second": round(rate, 2)}
        for rate, share, host in rates[:_SHOWN]
    ]


def _in_hand(running: Iterable[Lease]) -> dict[tuple[str, str], tuple[int, float]]:
    """Songs that tasks have done of shards in hand, and the seconds: all shards are made in the same ones."""
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for lease in running:
        songs, seconds = found.get(_task(lease.facts), (0, 0.0))
        taken = float(lease.facts.get("seconds", 0))
        found[_task(lease.facts)] = songs + int(lease.facts.get("songs", 0)), max(seconds, taken)
    return found


def _task(facts: dict[str, Any]) -> tuple[str, str]:
    return str(facts.get("share", "?")), str(facts.get("host", "?"))


def _listed(items: Sequence[object]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(str, items[:_SHOWN])) + more


def _by_reason(failures: dict[int, str]) -> dict[str, int]:
    return dict(Counter(failures.values()).most_common())

"""How the workers of a songs directory did, as metrics: made from the manifests of finished shards.

Every manifest says who made a half of a shard, when and how fast. Each becomes records in metrics.jsonl, with
the number of manifests so far as ``step``:

    text, audio         of the half that was finished: rates, attempts, what passed, seconds by stage
    worker-I-of-K       the same, for a curve a worker (``audio_…`` for sound); not for workers past the 64th
    corpus              of all workers together: songs so far, songs a second over the last ten minutes

The manifests are the truth. metrics.jsonl can be made again from them, by anybody and at any time.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from reelmill.errors import DamagedError
from reelmill.layout import METRICS
from reelmill.lock import exclusive
from reelmill.songs.store.manifest import KINDS, Kind, Manifest, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan, read_plan
from reelmill.songs.store.song import TIERS
from reelmill.tracking.metrics import MetricsLog

WINDOW = 600.0  # seconds that the rate of all workers together is taken over
_CURVES = 64  # workers with curves of their own: with thousands nobody finds one among them

Half = tuple[Kind, int]
"""A half of a shard: which, and the shard's number."""
Key = tuple[Kind, int, int]
"""The same, and how many ids it covers."""
Span = tuple[float, float, int]
"""When a shard was finished, how many seconds its making took, and how many ids it covers."""


class Figures:
    """Keeps metrics.jsonl of a songs directory up to date; remembers what it has read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[Key, Manifest] = {}
        self._logged = 0  # how many of them

    def update(self) -> list[Half]:
        """Append what is new; the halves it is of. Processes that do so at once wait for each other.

        Raises RequestError if there is no plan or the disk is full, OSError if the log cannot be written.
        """
        plan = read_plan(self.directory)
        for kind in KINDS if plan.audio else KINDS[:1]:
            self._read_manifests(kind, plan)
        if len(self._read) == self._logged:
            return []
        with exclusive(self.directory / f".{METRICS}.lease"):
            new = self._append(plan)
        self._logged = len(self._read)
        return new

    def _read_manifests(self, kind: Kind, plan: Plan) -> None:
        for number in sorted(shard_numbers(self.directory, kind)):
            if number < plan.shards and (kind, number, plan.count(number)) not in self._read:
                with contextlib.suppress(DamagedError):  # read again next time; `verify` names it
                    manifest = read_manifest(self.directory, kind, number)
                    self._read[kind, number, manifest.count] = manifest

    def _append(self, plan: Plan) -> list[Half]:
        log = MetricsLog(self.directory / METRICS)
        try:
            records = log.read()
        except DamagedError:
            log.path.unlink()
            records = []
        logged = {(record["kind"], record["of"]) for record in records}
        step = max((record["step"] for record in records), default=0)
        together = _Together("audio" if plan.audio else "text")
        new: list[Half] = []
        for key in sorted(self._read, key=lambda key: (_is_new(key, logged), finished(self._read[key]), key)):
            kind, number, _ = key
            manifest = self._read[key]
            together.add(kind, number, manifest)
            lines = {
                name: line for name, line in _lines(kind, manifest).items() if (name, _of(key)) not in logged
            }
            if kind == together.kind and ("corpus", _of(key)) not in logged:
                lines["corpus"] = together.values()
            step += bool(lines)
            for name, values in lines.items():
                log.append(step, kind=name, of=_of(key), **values, time=finished(manifest))
            if kind in lines:
                new.append((kind, number))
        log.close()
        return new


def figures(kind: Kind, manifest: Manifest) -> dict[str, float | int]:
    """What a manifest says about its making: songs, rates a second, and seconds by stage.

    ``passed_TIER`` is the share of the attempts; stages are in seconds of processors, sampling and writing in
    seconds of the clock. What its maker did not say is left out.
    """
    made_by = manifest.made_by
    values: dict[str, float | int] = {"songs": manifest.songs, "failed": len(manifest.failed)}
    seconds = float(made_by.get("seconds", 0))
    if seconds > 0:
        values |= {"seconds": seconds, "songs_per_second": round(manifest.songs / seconds, 3)}
    if kind == "text":
        if seconds > 0 and "characters" in made_by:
            values["characters_per_second"] = round(made_by["characters"] / seconds, 1)
        made = manifest.attempts.get("made", 0)
        values["attempts"] = made
        values |= {
            f"passed_{tier}": round(manifest.attempts[tier] / made, 6)
            for tier in TIERS
            if made and tier in manifest.attempts
        }
    return values | {f"{stage}_seconds": float(spent) for stage, spent in made_by.get("stages", {}).items()}


def finished(manifest: Manifest) -> float:
    """When a shard was finished, in seconds since 1970; 0 if its maker did not say."""
    try:
        return datetime.fromisoformat(str(manifest.made_by["finished"])).timestamp()
    except (KeyError, ValueError):
        return 0.0


def songs_per_second(manifests: Iterable[Manifest], now: float) -> float | None:
    """Songs a second of all workers together over the ``WINDOW`` before ``now``; None if none was finished.

    Counted from when the shards of the window were begun to when the last was finished.
    """
    return _rate([_span(manifest) for manifest in manifests], now)


def _span(manifest: Manifest) -> Span:
    return finished(manifest), float(manifest.made_by.get("seconds", 0)), manifest.count


def _rate(spans: Iterable[Span], now: float) -> float | None:
    recent = [span for span in spans if now - span[0] < WINDOW]
    if not recent:
        return None
    begin = min(end - seconds for end, seconds, _ in recent)
    seconds = max(end for end, _, _ in recent) - max(begin, now - WINDOW)
    return sum(count for _, _, count in recent) / max(seconds, 1.0)


class _Together:
    """Counts the halves of one kind, in order of their ends."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._songs: dict[int, int] = {}
        self._total = 0
        self._recent: deque[Span] = deque()

    def add(self, kind: Kind, number: int, manifest: Manifest) -> None:
        if kind != self.kind:
            return
        self._total += manifest.songs - self._songs.get(number, 0)  # a shard that has grown replaces itself
        self._songs[number] = manifest.songs
        self._recent.append(_span(manifest))
        while self._recent[-1][0] - self._recent[0][0] >= WINDOW:
            self._recent.popleft()

    def values(self) -> dict[str, float | int]:
        rate = _rate(self._recent, self._recent[-1][0]) or 0.0
        return {
            "songs": self._total,
            "shards": len(self._songs),
            "songs_per_second": round(rate, 3),
        }


def _lines(kind: Kind, manifest: Manifest) -> dict[str, dict[str, float | int]]:
    """The records of a half that concern it alone, by kind."""
    values = figures(kind, manifest)
    worker = _worker(str(manifest.made_by.get("share", "")))
    prefix = "audio_" if kind == "audio" else ""
    own = {f"{prefix}{name}": value for name, value in values.items()}
    return {kind: values, **({worker: own} if worker else {})}


def _of(key: Key) -> str:
    """How a record names the half it is of: a shard that has grown is another one."""
    return "/".join(map(str, key))


def _is_new(key: Key, logged: set[tuple[str, str]]) -> bool:
    return (key[0], _of(key)) not in logged


def _worker(share: str) -> str | None:
    """The kind of a worker's own records; None if it has none."""
    match = re.fullmatch(r"(\d+)/(\d+)", share)
    return f"worker-{match[1]}-of-{match[2]}" if match and int(match[1]) < _CURVES else None

"""What a songs directory holds so far, and what one command has done about it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelmill.errors import DamagedError
from reelmill.songs.store.manifest import Kind, Manifest, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Totals over the shards of one half that have a manifest for the plan's ids."""

    shards: int
    songs: int
    failed: dict[int, str]  # id to reason
    attempts: dict[str, int]


def count_half(directory: Path, plan: Plan, kind: Kind) -> Counts:
    """Count one half by its manifests; the tars are not looked at."""
    found: list[Manifest] = []
    for number in sorted(shard_numbers(directory, kind)):
        if number < plan.shards:
            with contextlib.suppress(DamagedError):
                manifest = read_manifest(directory, kind, number)
                if (manifest.first, manifest.count) == (plan.first(number), plan.count(number)):
                    found.append(manifest)
    attempts: Counter[str] = Counter()
    for manifest in found:
        attempts.update(manifest.attempts)
    return Counts(
        shards=len(found),
        songs=sum(manifest.songs for manifest in found),
        failed={failure.id: failure.reason for manifest in found for failure in manifest.failed},
        attempts=dict(attempts),
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What ``generate`` or ``render`` has done, and where the directory stands after it.

    ``complete`` speaks of the share that was asked for; ``remaining`` of the whole directory.
    """

    directory: Path
    planned: int  # songs
    share: tuple[int, int]
    complete: bool
    made: list[int]  # shards, by this command
    remaining: int  # shards of the plan that nobody has finished
    songs: int  # valid ones in the directory
    failed: dict[int, str]  # ids without a song, and why
    silent: dict[int, str]  # songs without sound, and why
    attempts: dict[str, int]  # over the directory: made, ended, and passed by tier
    damaged: list[str] = field(default_factory=list)  # what was found damaged, and has been made again
    faults: list[str] = field(default_factory=list)  # of the machine, that kept shards from being made
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {**dataclasses.asdict(self), "directory": str(self.directory), "share": list(self.share)}

    def describe(self) -> str:
        """A few lines for a person."""
        lines = [f"{self.directory}: {self.songs} of {self.planned} songs"]
        if self.failed:
            lines.append(f"{len(self.failed)} ids have no song: {_reasons(self.failed)}")
        if self.silent:
            lines.append(f"{len(self.silent)} songs have no sound: {_reasons(self.silent)}")
        if self.attempts.get("made"):
            made = self.attempts["made"]
            passed = (f"{name} {count / made:.1%}" for name, count in self.attempts.items() if name != "made")
            lines.append(f"{made} attempts: {', '.join(passed)}")
        done = "nothing was missing"
        if self.made:
            done = f"{_shards(len(self.made))} made in {self.seconds:.1f} s"
        if not self.made and not self.complete:
            done = "no shard made"
        lines.append(done + (f"; to come: {_shards(self.remaining)}" if self.remaining else ""))
        lines += [f"not made: {fault}" for fault in self.faults]
        return "\n".join(lines)


def _shards(count: int) -> str:
    return f"{count} shard{'' if count == 1 else 's'}"


def _reasons(failures: dict[int, str]) -> str:
    counted = Counter(failures.values()).most_common(3)
    more = len(set(failures.values())) - len(counted)
    return ", ".join(f"{reason} ({count})" for reason, count in counted) + (
        f" and {more} more" if more else ""
    )

"""What has been done to a corpus: kills by phase and way, damage, full disks."""

from __future__ import annotations

import dataclasses
from collections import Counter

from watched import PHASES

BETWEEN = "between two phases"
KILL, TERM, GROUP, CHILD = "SIGKILL", "SIGTERM", "all killed", "child killed"
WAYS = (KILL, TERM, GROUP, CHILD)


@dataclasses.dataclass(frozen=True)
class Kill:
    """What was done to a command that was in ``phase``, and in ``others`` at the same time."""

    phase: str
    way: str
    command: str
    others: tuple[str, ...]
    unlisted: bool  # a tar was in place, its manifest was not
    finished: int  # shards, of the whole plan

    def describe(self) -> str:
        """For people."""
        besides = f" (and {', '.join(self.others)})" if self.others else ""
        torn = ", tar in place without manifest" if self.unlisted else ""
        return (
            f"{self.way:<12} {self.command:<8} {self.phase}{besides}{torn}, {self.finished} shards finished"
        )


@dataclasses.dataclass
class Story:
    """What has been done to a corpus that came out as if undisturbed."""

    kills: list[Kill] = dataclasses.field(default_factory=list)
    harms: Counter[str] = dataclasses.field(default_factory=Counter)
    full_disks: Counter[str] = dataclasses.field(default_factory=Counter)
    starts: int = 0

    def table(self) -> str:
        """How many kills each phase met in each way, and the other harm."""
        counts = Counter((kill.phase, kill.way) for kill in self.kills)
        phases = [*PHASES, *([BETWEEN] if any(kill.phase == BETWEEN for kill in self.kills) else [])]
        lines = [" " * 20 + "".join(f"{way:>14}" for way in WAYS) + "    total"]
        for phase in phases:
            row = [counts[phase, way] for way in WAYS]
            lines.append(f"{phase:<20}" + "".join(f"{count:14}" for count in row) + f"{sum(row):9}")
        torn = sum(kill.unlisted for kill in self.kills)
        several = sum(bool(kill.others) for kill in self.kills)
        return "\n".join(
            [
                *lines,
                f"{'all':<20}" + " " * 14 * len(WAYS) + f"{len(self.kills):9}",
                f"{self.starts} starts; {several} kills met several phases, {torn} a tar without manifest",
                f"damaged: {', '.join(f'{name} {count}' for name, count in sorted(self.harms.items()))}",
                f"disk full: {', '.join(f'{count} × {how}' for how, count in self.full_disks.items())}",
            ]
        )

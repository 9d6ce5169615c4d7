"""Which shards a worker makes, in which order: its own share first, then what nobody has begun.

Worker I of K owns shards I, I+K, I+2K …. Whoever has finished with those takes over others from the far end,
so that owner and helper meet in the middle. The disk alone says what is made; nothing is remembered here that
it does not have.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reelmill.audio.encode import extension
from reelmill.errors import DamagedError
from reelmill.songs.examine import examine
from reelmill.songs.leases import Leases
from reelmill.songs.plan import Plan
from reelmill.songs.shards import Kind, check, manifest_path, read_manifest, shard_numbers

_CHECKS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Work:
    """A shard to be made, and which of its two halves."""

    shard: int
    first: int
    count: int
    text: bool
    audio: bool


class Share:
    """Hands out the work of worker ``shard[0]`` of ``shard[1]``; ``halves`` are the kinds it is to make.

    The own share is examined at once: ``damaged`` says what is wrong with shards that are there and do not
    count. A tar that its manifest agrees with in size and time is trusted as long as anything is missing. If
    nothing seems to be, all is read as ``verify`` does: whoever asks again may have reason to doubt it.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        shard: tuple[int, int] = (0, 1),
        halves: tuple[Kind, ...] = ("text", "audio"),
        take_over: bool = True,
    ) -> None:
        self._directory, self._plan, self._halves, self._take_over = directory, plan, halves, take_over
        self._doubted: set[int] = set()
        self.own = range(shard[0], plan.shards, shard[1])
        found = self._examine()
        if not any(found.values()):
            self._doubted = set(self.own)
            found = self._examine()
        self.damaged = [problem for problems in found.values() for problem in problems.values() if problem]
        self._missing = [number for number, problems in found.items() if problems]
        self._doubted &= set(self._missing)
        self._own = deque(self._missing)
        self._elsewhere: deque[int] = deque()  # own shards that somebody else is making
        self._others: deque[int] | None = None

    @property
    def waits(self) -> bool:
        """Whether own shards may have to be handed out later, because somebody else is making them now."""
        return bool(self._elsewhere or self._own)

    def next(self, leases: Leases) -> Work | None:
        """The next shard to make, under a lease of ours; None if there is nothing to begin now."""
        while self._own:
            work = self._work(self._own.popleft())
            if work and leases.take(work.shard):
                return work
            if work:
                self._elsewhere.append(work.shard)
        while self._take_over and self._list_others():
            work = self._work(self._list_others().popleft())
            if work and leases.take(work.shard):
                return work
        for _ in range(len(self._elsewhere)):
            work = self._work(self._elsewhere.popleft())
            if work and leases.take(work.shard):
                return work
            if work:
                self._elsewhere.append(work.shard)
        return None

    def again(self, work: Work) -> None:
        """Take back work that came to nothing; whoever has taken over a shard leaves it to its owner."""
        if work.shard in self.own:
            self._own.append(work.shard)

    @property
    def songs(self) -> int:
        """Number of songs in the own shards that were missing at the start."""
        return sum(self._plan.count(number) for number in self._missing)

    def needs(self, kind: Kind) -> bool:
        """Whether anything of one half is left to make that could be handed out."""
        if any(kind in self._problems(number) for number in self._missing):
            return True
        made = shard_numbers(self._directory, kind)
        return self._take_over and any(number not in made for number in self._list_others())

    def unfinished(self) -> list[int]:
        """Own shards that do not count yet, whoever is making them."""
        return [number for number in self._missing if self._problems(number)]

    def _work(self, number: int) -> Work | None:
        problems = self._problems(number)
        if not problems or ("text" not in self._halves and self._problem(number, "text") is not None):
            return None  # made by now, or there is no text yet to make sound from
        first, count = self._plan.first(number), self._plan.count(number)
        text, audio = "text" in problems, "audio" in problems
        return Work(shard=number, first=first, count=count, text=text, audio=audio)

    def _list_others(self) -> deque[int]:
        if self._others is None:
            begun = set.intersection(*(shard_numbers(self._directory, kind) for kind in self._halves))
            everything = range(self._plan.shards - 1, -1, -1)
            self._others = deque(
                number for number in everything if number not in self.own and number not in begun
            )
        return self._others

    def _examine(self) -> dict[int, dict[Kind, str]]:
        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as threads:
            return dict(zip(self.own, threads.map(self._problems, self.own), strict=True))

    def _problems(self, number: int) -> dict[Kind, str]:
        """Why the halves of a shard do not count, those that do left out; see ``_problem``."""
        found = {kind: self._problem(number, kind) for kind in self._halves}
        if not any(found.values()) and number in self._doubted:
            plan = self._plan
            audio = extension(plan.audio_settings) if "audio" in self._halves else None
            seen = examine(self._directory, number, plan.first(number), plan.count(number), audio)
            found.update({kind: lines[0] for kind, lines in seen.problems.items() if lines and kind in found})
        return {kind: problem for kind, problem in found.items() if problem is not None}

    def _problem(self, number: int, kind: Kind) -> str | None:
        """Why a shard does not count ("" if it is not made, or not to its end, yet); None if it does."""
        if not manifest_path(self._directory, kind, number).exists():
            return ""
        first, count = self._plan.first(number), self._plan.count(number)
        try:
            manifest = read_manifest(self._directory, kind, number)
            if manifest.first == first and manifest.count < count:
                return ""
            check(self._directory, kind, number, first, count)
        except DamagedError as error:
            return str(error)
        return None

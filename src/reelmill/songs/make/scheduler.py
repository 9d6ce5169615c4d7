"""Which shards a worker makes, in which order: its own share first, then what nobody has begun.

Worker I of K owns shards I, I+K, I+2K …. Whoever has finished with those takes over others from the far end,
so that owner and helper meet in the middle. The disk alone says what is made; nothing is remembered here that
it does not have.

What is in other hands is looked at again as long as there is anything to do or to wait for. Own shards are
waited for until they are made, whoever makes them: the share is done then and not before. A shard of others
is waited for until its lease has been renewed, which takes seconds and shows that its holder lives, or is
given back, or has expired (``leases.EXPIRY``); then it is made here. So nobody stands idle beside a task that
is merely slow, and no shard is left in the hands of a dead one as long as anybody is at work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reelmill.audio.encode import extension
from reelmill.errors import DamagedError
from reelmill.songs.check.examine import Verified, examine
from reelmill.songs.store.leases import EXPIRY, RENEWALS, Leases, file_server_now, leased, read_lease
from reelmill.songs.store.manifest import Kind, check, manifest_path, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.song import Song

_CHECKS_AT_ONCE = 4
_LOOKS = 20  # at leases of others a second, at most, for there may be thousands, and thousands who look


@dataclass(frozen=True, kw_only=True)
class Work:
    """A shard to be made, and which of its two halves."""

    shard: int
    first: int
    count: int
    text: bool
    audio: bool


class Source(Protocol):
    """What a worker asks and tells. Calls come from two of its threads."""

    @property
    def waits(self) -> bool:
        """Whether there may be work later where there is none now."""
        ...

    def next(self) -> Work | None:
        """The next shard to make, leased; None if there is nothing to begin now."""
        ...

    def taken_up(self, shard: int, songs: int, song: Song) -> None:
        """``song`` is in its shard, the last of ``songs`` so far."""
        ...

    def release(self, shard: int) -> None:
        """A shard is in hand no longer, finished or not."""
        ...

    def again(self, work: Work) -> None:
        """Work that came to nothing, and is to be looked at again."""
        ...

    def doubt(self) -> list[str]:
        """Once all is made: what is wrong with what has only been looked at so far; it is handed out then."""
        ...


class Share:
    """Hands out the work of worker ``shard[0]`` of ``shard[1]``; ``halves`` are the kinds it is to make.

    The own share is examined at once: ``damaged`` says what is wrong with shards that are there and do not
    count. A tar that its manifest agrees with in size and time is trusted as long as anything is missing, for
    a worker that goes on after a kill should not read all it has made. If nothing seems to be, all is read as
    ``verify`` does: whoever asks again may have reason to doubt it. Where damage was found the rest is read,
    too, once that is made good (``doubt``). With a ``memory`` all is read at once but what it recalls.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        shard: tuple[int, int] = (0, 1),
        halves: tuple[Kind, ...] = ("text", "audio"),
        take_over: bool = True,
        memory: Verified | None = None,
    ) -> None:
        self._directory, self._plan, self._halves, self._take_over = directory, plan, halves, take_over
        self._memory = memory
        self._doubted: set[int] = set()
        self.own = range(shard[0], plan.shards, shard[1])
        self.damaged: list[str] = []
        self._missing: list[int] = []
        self._own: deque[int] = deque()
        self._elsewhere: dict[int, float] = {}  # shards in other hands, and when their leases were renewed
        self._living: set[int] = set()  # those of them whose leases have been renewed since
        self._others: deque[int] | None = None
        self._next_look = 0.0
        self._untouched: list[int] = []  # of the own shards, what nobody has read in full
        self._examine(self.own, in_full=memory is not None)
        if memory is None and not self._missing:
            self._examine(self.own, in_full=True)
        elif memory is None:
            self._untouched = [number for number in self.own if number not in self._missing]

    @property
    def waits(self) -> bool:
        """Whether shards may have to be handed out later: those in other hands, for as long as the module
        says.
        """
        return bool(self._own or self._others) or any(
            number in self.own or number not in self._living for number in self._elsewhere
        )

    def next(self, leases: Leases) -> Work | None:
        """The next shard to make, under a lease of ours; None if there is nothing to begin now."""
        for waiting in (self._own, self._list_others() if self._take_over else deque[int]()):
            while waiting:
                if work := self._take(waiting.popleft(), leases):
                    return work
        return self._look_again(leases)

    def again(self, work: Work) -> None:
        """Take back work that came to nothing."""
        if work.shard in self.own:
            self._own.append(work.shard)
        elif self._others is not None:
            self._others.append(work.shard)

    def doubt(self) -> list[str]:
        """Once all is made: what is wrong with the own shards that have only been looked at so far, which is
        handed out then. They are read if damage was found among the others, and once.
        """
        rest, self._untouched = self._untouched, []
        return self._examine(rest, in_full=True) if self.damaged else []

    @property
    def songs(self) -> int:
        """Number of songs in the own shards that were missing at the start."""
        return sum(self._plan.count(number) for number in self._missing)

    @property
    def in_reach(self) -> int:
        """About how many shards may be handed out: the own ones that were missing at the start, and those of
        others that nobody has made or holds.
        """
        if not self._take_over:
            return len(self._missing)
        return len(self._missing) + len(set(self._list_others()) - leased(self._directory))

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

    def _take(self, number: int, leases: Leases) -> Work | None:
        """The work on a shard, under a lease of ours; None if it is made or in other hands."""
        work = self._work(number)
        if work is None or leases.take(number):
            return work
        lease = read_lease(self._directory, number)
        self._elsewhere[number] = lease.renewed if lease else 0.0
        return None

    def _look_again(self, leases: Leases) -> Work | None:
        """Take one of the shards that were in other hands, if it has been given back or its lease expired."""
        if time.monotonic() < self._next_look:
            return None
        now = file_server_now(self._directory)
        for number, renewed in list(self._elsewhere.items()):
            lease = read_lease(self._directory, number, now) if self._work(number) else None
            if lease and lease.live:
                if lease.renewed != renewed:
                    self._living.add(number)
                continue
            del self._elsewhere[number]
            self._living.discard(number)
            if work := self._take(number, leases):
                return work
        self._next_look = time.monotonic() + min(len(self._elsewhere) // _LOOKS, EXPIRY / RENEWALS)
        return None

    def _list_others(self) -> deque[int]:
        if self._others is None:
            begun = set.intersection(*(shard_numbers(self._directory, kind) for kind in self._halves))
            everything = range(self._plan.shards - 1, -1, -1)
            self._others = deque(
                number for number in everything if number not in self.own and number not in begun
            )
        return self._others

    def _examine(self, numbers: Iterable[int], in_full: bool = False) -> list[str]:
        """Look at shards and note which have to be made; what is wrong with those that are there."""
        numbers = list(numbers)
        self._doubted |= set(numbers) if in_full else set()
        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as threads:
            found = dict(zip(numbers, threads.map(self._problems, numbers), strict=True))
        missing = [number for number in numbers if found[number]]
        damaged = [problem for number in missing for problem in found[number].values() if problem]
        self._doubted -= set(numbers) - set(missing)
        self._missing += missing
        self._own += missing
        self.damaged += damaged
        return damaged

    def _problems(self, number: int) -> dict[Kind, str]:
        """Why the halves of a shard do not count, those that do left out; see ``_problem``."""
        found = {kind: self._problem(number, kind) for kind in self._halves}
        if not any(found.values()) and number in self._doubted and not self._is_verified(number):
            plan = self._plan
            audio = extension(plan.audio_settings) if "audio" in self._halves else None
            seen = examine(self._directory, number, plan.first(number), plan.count(number), audio)
            found.update({kind: lines[0] for kind, lines in seen.problems.items() if lines and kind in found})
        return {kind: problem for kind, problem in found.items() if problem is not None}

    def _is_verified(self, number: int) -> bool:
        return self._memory is not None and self._memory.recall(number) is not None

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

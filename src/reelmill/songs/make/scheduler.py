"""Which shard a worker makes next: its own part first, then what nobody has begun.

Task I of K owns the share of shards I, I+K, I+2K …, and each of its workers a part of that, divided likewise.
Whoever has finished with its part takes over others from the far end, so that owner and helper meet in the
middle. The disk alone says what is made; nothing is remembered here that it does not have.

What is in other hands is looked at again as long as there is anything to do or to wait for. The own part is
waited for until it is made, whoever makes it. A shard of others is waited for until its lease has been
renewed, which takes seconds and shows that its holder lives, or is given back, or has expired
(``leases.EXPIRY``); then it is made here. So nobody stands idle beside a task that is merely slow, and no
shard is left in the hands of a dead one as long as anybody is at work.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reelmill.errors import DamagedError
from reelmill.songs.store.leases import EXPIRY, RENEWALS, Leases, file_server_now, leased, read_lease
from reelmill.songs.store.manifest import Kind, check, manifest_path, read_manifest, shard_numbers
from reelmill.songs.store.plan import Plan

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

    @property
    def halves(self) -> int:
        """How many halves are to be made."""
        return self.text + self.audio


class Scheduler:
    """Hands out the work of part ``part[0]`` of ``part[1]`` of share ``share[0]`` of ``share[1]``.

    ``halves`` are the kinds to make; shards outside the share are made as well, once the share is.
    ``damaged`` says what is wrong with shards that are there and do not count: a tar is read only where its
    size or time is not what its manifest says (``reelmill verify`` reads all).
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        share: tuple[int, int] = (0, 1),
        part: tuple[int, int] = (0, 1),
        halves: tuple[Kind, ...] = ("text", "audio"),
    ) -> None:
        self._directory, self._plan, self._halves = directory, plan, halves
        self._share = range(plan.shards)[share[0] :: share[1]]
        self._own = self._share[part[0] :: part[1]]
        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as threads:
            found = dict(zip(self._own, threads.map(self._problems, self._own), strict=True))
        self._missing = [number for number in self._own if found[number]]
        self.damaged = [problem for number in self._missing for problem in found[number].values() if problem]
        self._waiting = deque(self._missing)
        self._others: deque[int] | None = None
        self._elsewhere: dict[int, float] = {}  # shards in other hands, and when their leases were renewed
        self._living: set[int] = set()  # those of them whose leases have been renewed since
        self._next_look = 0.0

    @property
    def waits(self) -> bool:
        """Whether shards may have to be handed out later: those in other hands, for as long as the module
        says.
        """
        return bool(self._waiting or self._others) or any(
            number in self._own or number not in self._living for number in self._elsewhere
        )

    def next(self, leases: Leases) -> Work | None:
        """The next shard to make, under a lease of ours; None if there is nothing to begin now."""
        for list_waiting in (lambda: self._waiting, self._list_others):
            waiting = list_waiting()
            while waiting:
                if work := self._take(waiting.popleft(), leases):
                    return work
        return self._look_again(leases)

    def again(self, work: Work) -> None:
        """Take back work that came to nothing, or was done by others at the same time."""
        if work.shard in self._own:
            self._waiting.append(work.shard)
        else:
            self._list_others().append(work.shard)

    @property
    def songs(self) -> int:
        """Number of songs in the own shards that were missing at the start."""
        return sum(self._plan.count(number) for number in self._missing)

    @property
    def in_reach(self) -> int:
        """About how many shards may be handed out: the own ones that were missing at the start, and those of
        others that nobody has made or holds.
        """
        return len(self._missing) + len(set(self._list_others()) - leased(self._directory))

    def needs(self, kind: Kind) -> bool:
        """Whether anything of one half is left to make that could be handed out."""
        if any(kind in self._problems(number) for number in self._missing):
            return True
        made = shard_numbers(self._directory, kind)
        return kind in self._halves and any(number not in made for number in self._list_others())

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
        """What others own and nobody has begun: the rest of the share first, each from its far end."""
        if self._others is None:
            begun = set.intersection(*(shard_numbers(self._directory, kind) for kind in self._halves))
            nearest_first = dict.fromkeys([*reversed(self._share), *reversed(range(self._plan.shards))])
            self._others = deque(
                number for number in nearest_first if number not in self._own and number not in begun
            )
        return self._others

    def _problems(self, number: int) -> dict[Kind, str]:
        """Why the halves of a shard do not count, those that do left out; see ``_problem``."""
        found = {kind: self._problem(number, kind) for kind in self._halves}
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

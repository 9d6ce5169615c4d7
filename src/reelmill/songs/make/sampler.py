"""Chains of attempts: song ids go in, finished songs come out.

Attempt 0, 1, 2 … of a song have a random stream each; the first that passes is the song. After
``songs.max_attempts`` it is a failure, with the reason of its last attempt. Sampling runs in the calling
thread and judging in the pool's processes, so the two overlap.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from reelmill.notation.validity import numbered
from reelmill.sampling.engine import Attempt, Engine, Sampled
from reelmill.songs.make.pool import Pool
from reelmill.songs.make.validate import Judgement
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.song import Song, empty_tally


@dataclass
class _Chain:
    future: Future[Song]
    tally: dict[str, int] = field(default_factory=empty_tally)


class Chains:
    """All chains that one engine is working on."""

    def __init__(self, engine: Engine, pool: Pool, plan: Plan) -> None:
        self.tally = empty_tally()  # of every attempt judged here
        self.passed = 0  # attempts that became songs
        self.last_reason = ""  # why an attempt did not
        self._engine, self._pool, self._plan = engine, pool, plan
        self._chains: dict[int, _Chain] = {}
        self._retries: list[Attempt] = []
        self._judging = 0
        self._judged: queue.SimpleQueue[tuple[Sampled, Future[Judgement]]] = queue.SimpleQueue()
        # A pool that cannot keep up holds the sampler back.
        self._most_judging = 2 * engine.slots + 64

    @property
    def slots(self) -> int:
        """How many attempts are sampled at once."""
        return self._engine.slots

    @property
    def room(self) -> int:
        """How many more songs can be begun without any waiting for a slot."""
        return self._engine.free - len(self._retries)

    @property
    def judging(self) -> int:
        """How many attempts are sampled and not judged yet."""
        return self._judging

    @property
    def active(self) -> bool:
        """Whether any song begun here is unfinished."""
        return bool(self._chains)

    def begin(self, song: int, future: Future[Song]) -> None:
        """Begin a song. ``future`` gets it, or the fault of the machine that kept it from being made."""
        if future.cancelled():
            return  # its shard has been given up
        self._chains[song] = _Chain(future)
        self._engine.submit(Attempt(song, 0, self._plan.prompt(song)))

    def advance(self) -> None:
        """Go on until something has happened: attempts sampled, or judged."""
        while self._retries and self._engine.free:
            self._engine.submit(self._retries.pop())
        if self._engine.active and self._judging < self._most_judging:
            for sampled in self._engine.step():
                self._judge(sampled)
        elif self._judging:
            self._take(*self._judged.get())
        while not self._judged.empty():
            self._take(*self._judged.get())

    def _judge(self, sampled: Sampled) -> None:
        self._judging += 1
        abc = numbered(sampled.text, sampled.attempt.song)
        judgement = self._pool.judge(
            abc, sampled.ended, self._plan.sampling.max_length, self._plan.audio_settings.tempo
        )
        judgement.add_done_callback(lambda done: self._judged.put((sampled, done)))

    def _take(self, sampled: Sampled, judged: Future[Judgement]) -> None:
        self._judging -= 1
        attempt = sampled.attempt
        chain = self._chains.get(attempt.song)
        if chain is None or chain.future.cancelled():
            self._chains.pop(attempt.song, None)
            return
        error = judged.exception()
        if error is not None:
            del self._chains[attempt.song]
            with contextlib.suppress(InvalidStateError):
                chain.future.set_exception(error)
            return
        judgement = judged.result()
        for name in ("made", *(["ended"] if sampled.ended else []), *judgement.passed()):
            chain.tally[name] += 1
            self.tally[name] += 1
        reason = judgement.reason(self._plan.songs_settings.require)
        attempts = attempt.number + 1
        self.passed += not reason
        self.last_reason = reason or self.last_reason
        if not reason:
            song = Song(
                id=attempt.song,
                facts=judgement.facts(attempt.song, attempts),
                midi=judgement.data,
                tally=chain.tally,
            )
        elif attempts == self._plan.songs_settings.max_attempts:
            song = Song(id=attempt.song, failure=reason, tally=chain.tally)
        else:
            self._retries.append(Attempt(attempt.song, attempts, attempt.prompt))
            return
        del self._chains[attempt.song]
        with contextlib.suppress(InvalidStateError):  # cancelled just now
            chain.future.set_result(song)


def make_songs(ids: Sequence[int], chains: Chains) -> Iterator[Song]:
    """The songs of ``ids``, made from nothing, in that order."""
    futures: dict[int, Future[Song]] = {song: Future() for song in ids}
    waiting = deque(futures.items())
    while waiting or chains.active:
        while waiting and chains.room > 0:
            chains.begin(*waiting.popleft())
        chains.advance()
    for future in futures.values():
        yield future.result()

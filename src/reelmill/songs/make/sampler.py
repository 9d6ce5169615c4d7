"""Sampling until valid: song ids go in, finished songs come out.

Attempt 0, 1, 2 … of a song have a random stream each; the first that passes is the song. After
``songs.max_attempts`` it is a failure, with the reason of its last attempt. Attempts are validated in this
process, or, where a GPU samples faster than one processor validates, by the processes of an executor.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

import numpy as np
from numpy.typing import NDArray

from reelmill.audio.process import ToolError
from reelmill.errors import RequestError
from reelmill.notation.validity import numbered
from reelmill.sampling.block import Block, code_points
from reelmill.sampling.engine import Attempt, Engine
from reelmill.songs.make.validate import Validated, validate
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.song import Song, empty_tally

_AT_ONCE = 32  # attempts that an executor's process validates in one go


class Sampler:
    """All songs that one engine is working on."""

    def __init__(self, engine: Engine, plan: Plan, executor: Executor | None = None) -> None:
        self.slots = engine.slots  # attempts sampled at once
        self.attempts = 0  # validated so far
        self.songs = 0  # of them
        self.last_reason = ""  # why an attempt was no song
        self.seconds = {"sampling": 0.0, "validating": 0.0}  # of the clock
        self.faults: deque[tuple[int, str]] = deque()  # songs that the machine keeps from being made, and why
        self._engine, self._plan, self._executor = engine, plan, executor
        self._tallies: dict[int, dict[str, int]] = {}  # of songs that have no valid attempt yet
        self._retries: list[Attempt] = []
        self._points = code_points(engine.vocabulary)
        self._validating: dict[Future[list[Validated | str]], Block] = {}

    @property
    def room(self) -> int:
        """How many more songs can be begun without any waiting for a slot."""
        return self._engine.free - len(self._retries)

    @property
    def active(self) -> bool:
        """Whether any song begun here is unfinished."""
        return bool(self._tallies)

    def begin(self, song: int) -> None:
        """Begin a song."""
        self._tallies[song] = empty_tally()
        self._engine.submit(Attempt(song, 0, self._plan.prompt(song)))

    def forget(self, songs: Iterable[int]) -> None:
        """Drop songs that nobody waits for any more."""
        for song in songs:
            self._tallies.pop(song, None)

    def advance(self) -> list[Song]:
        """Go on until some attempts are sampled or validated; return the songs that are finished by that."""
        while self._retries and self._engine.free:
            self._engine.submit(self._retries.pop())
        # Sampling waits while as many attempts as there are slots wait for validation.
        if self._engine.active and sum(map(len, self._validating.values())) < self.slots:
            self._submit(self._sample())
        elif self._validating:
            wait(self._validating, return_when=FIRST_COMPLETED)
        done = [future for future in self._validating if future.done()]
        return [song for future in done for song in self._take(self._validating.pop(future), future.result())]

    def _sample(self) -> Block:
        began = time.monotonic()
        try:
            return self._engine.step()
        except RequestError as error:
            raise RequestError(f"{self._plan.run}, {self._plan.checkpoint}: {error}") from None
        finally:
            self.seconds["sampling"] += time.monotonic() - began

    def _submit(self, sampled: Block) -> None:
        given = self._points, self._plan.sampling.max_length, self._plan.audio_settings.tempo
        if self._executor:
            for piece in sampled.pieces(_AT_ONCE):
                self._validating[self._executor.submit(_validate_all, piece, *given)] = piece
            return
        began = time.monotonic()
        future: Future[list[Validated | str]] = Future()
        future.set_result(_validate_all(sampled, *given))
        self._validating[future] = sampled
        self.seconds["validating"] += time.monotonic() - began

    def _take(self, sampled: Block, validated: list[Validated | str]) -> Iterator[Song]:
        columns = sampled.songs.tolist(), sampled.attempts.tolist(), sampled.ended.tolist()
        for song_id, number, ended, result in zip(*columns, validated, strict=True):
            if song_id not in self._tallies:
                continue
            if isinstance(result, str):
                del self._tallies[song_id]
                self.faults.append((song_id, result))
            elif song := self._song(song_id, number + 1, ended, result):
                del self._tallies[song_id]
                yield song

    def _song(self, song: int, attempts: int, ended: bool, validated: Validated) -> Song | None:
        """The song that its last of ``attempts`` settles; None if another is needed, which is then queued."""
        tally = self._tallies[song]
        for name in ("made", *(["ended"] if ended else []), *validated.passed()):
            tally[name] += 1
        reason = validated.reason(self._plan.songs_settings.require)
        self.attempts += 1
        if not reason:
            self.songs += 1
            facts = validated.facts(song, attempts)
            return Song(id=song, facts=facts, midi=validated.data, tally=tally)
        self.last_reason = reason
        if attempts == self._plan.songs_settings.max_attempts:
            return Song(id=song, failure=reason, tally=tally)
        self._retries.append(Attempt(song, attempts, self._plan.prompt(song)))
        return None


def make_songs(ids: Sequence[int], sampler: Sampler) -> Iterator[Song]:
    """The songs of ``ids``, made from nothing, in that order. Raises ToolError for a fault of the machine."""
    waiting, finished = deque(ids), dict[int, Song]()
    for song in ids:
        while song not in finished:
            while waiting and sampler.room > 0:
                sampler.begin(waiting.popleft())
            finished.update((each.id, each) for each in sampler.advance())
            if sampler.faults:
                raise ToolError(sampler.faults[0][1])
        yield finished.pop(song)


def _validate_all(
    sampled: Block, points: NDArray[np.uint32], max_length: int, tempos: Mapping[str, str]
) -> list[Validated | str]:
    """Each attempt's validation, or the fault of the machine that prevents it."""
    results: list[Validated | str] = []
    columns = sampled.songs.tolist(), sampled.texts(points), sampled.ended.tolist()
    for song, text, ended in zip(*columns, strict=True):
        try:
            results.append(validate(numbered(text, song), ended, max_length, tempos))
        except ToolError as error:
            results.append(str(error))
    return results

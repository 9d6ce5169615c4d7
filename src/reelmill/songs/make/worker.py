"""One worker: sampling, judging, recording and writing, all at once.

The calling thread runs the engine; the pool's processes judge and record; the committer's thread writes. The
engine's slots stay full across the borders of shards: while the last songs of one are finishing, the first of
the next have begun. What is finished and not yet written is bounded, so a slow disk holds the sampler back.
Where there are more processors, there are more workers (``launch``).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import reelmill
from reelmill.errors import DamagedError
from reelmill.songs.make.commit import AGAIN, Committer, InHand
from reelmill.songs.make.machine import Machine
from reelmill.songs.make.sampler import Chains
from reelmill.songs.make.scheduler import Source, Work
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.reader import stored_songs
from reelmill.songs.store.song import Song, empty_tally

_log = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0  # seconds between two looks for work where there was none
_HOPELESS = 128  # attempts
# Songs are written in order, and one that takes many attempts holds up those behind it. So many times the
# slots may be finished meanwhile: with half of it slots stand empty, with twice of it a kill costs double.
_LAGGARD = 8
# So many times the slots may wait for the disk or for recording. A song's turn then comes some seconds after
# it was begun, and few that take many attempts are waited for: a worker alone with only as many as its slots
# left a fifth of two processors idle. Several workers fill in for each other, and lose less when killed.
_AHEAD_ALONE, _AHEAD = 4, 1


@dataclass
class Made:
    """What a worker has made."""

    shards: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # of the machine; what they kept from being made is left

    def add(self, other: Made) -> None:
        """Take in what another worker has made."""
        self.shards += other.shards
        self.faults += other.faults


class Worker:
    """Makes the work that ``source`` hands out; where ``machine`` has no engine only sound of stored songs.

    ``share`` is the name of the share it works for, as one of so many ``workers``, for the manifests.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        source: Source,
        machine: Machine,
        extension: str,
        share: str,
        workers: int,
    ) -> None:
        self.made = Made()
        self._directory, self._plan, self._source = directory, plan, source
        self._machine, self._pool = machine, machine.pool
        self._chains: Chains | None = None
        self._made_by = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "share": share,
            "workers": workers,
            "reelmill": reelmill.__version__,
            "device": "",
        }
        self._begun: list[InHand] = []
        self._to_begin: deque[tuple[int, Future[Song]]] = deque()
        self._next_look = 0.0
        self._sampling_seconds = 0.0
        self._ahead = _AHEAD_ALONE if workers == 1 else _AHEAD
        self._warned = False
        self._changed = threading.Event()
        self._committer = Committer(
            directory, self._pool, extension, self._made_by, self._stages, self._take_song, self._take_shard
        )

    def run(self) -> Made:
        """Work until there is nothing left to begin and all that was begun is on disk."""
        try:
            while self._step():
                pass
        except BaseException:
            self._committer.stop()
            raise
        finally:
            # After an error the songs in hand will not come any more, and their shards are given up.
            for shard in list(self._begun):
                for song in list(shard.songs):
                    song.cancel()
            self._committer.close()
        if self._committer.error:
            raise self._committer.error
        return self.made

    def _step(self) -> bool:
        if self._committer.error:
            return False
        self._fill()
        if self._chains and self._chains.active and not self._held_back(self._chains):
            began = time.monotonic()
            self._chains.advance()
            self._warn_if_hopeless(self._chains)
            self._sampling_seconds += time.monotonic() - began
        elif self._committer.in_hand or (self._source.waits and not self.made.faults):
            self._changed.wait(0.01)
            self._changed.clear()
        else:
            return self._doubts()
        return True

    def _held_back(self, chains: Chains) -> bool:
        """Whether sampling has to wait for the disk, or for the pool's recording.

        What is finished and not written lies in memory, and is lost with this process.
        """
        return self._committer.backlog > self._ahead * chains.slots and not self._committer.starved

    def _doubts(self) -> bool:
        """Whether reading what was only looked at so far brings new work."""
        problems = self._source.doubt()
        for problem in problems:
            _log.warning("%s; it is made again", problem)
        return bool(problems)

    def _warn_if_hopeless(self, chains: Chains) -> None:
        made = chains.tally["made"]
        if not self._warned and made >= _HOPELESS and not chains.passed:
            self._warned = True
            _log.warning("none of the first %d attempts is a song; the last: %s", made, chains.last_reason)

    def _fill(self) -> None:
        """Begin songs while slots are free and what is finished does not pile up.

        A shard is begun, and leased, no sooner than a slot is free for its first song: only so few are in
        hand as the slots need, and a kill costs no more.
        """
        while self._may_begin():
            if self._to_begin and self._chains:
                self._chains.begin(*self._to_begin.popleft())
            elif not self._open_shard():
                return

    def _may_begin(self) -> bool:
        chains = self._chains
        if chains is None or not chains.active:  # nothing is being sampled
            return bool(self._to_begin) or self._committer.in_hand < 2
        done = self._committer.backlog + chains.judging
        most = _LAGGARD if self._committer.starved else self._ahead
        return chains.room > 0 and done <= most * chains.slots

    def _open_shard(self) -> bool:
        if time.monotonic() < self._next_look:
            return False
        work = self._source.next()
        if work is None:
            self._next_look = time.monotonic() + _LOOK_AGAIN
            return False
        shard = self._take_in_hand(work)
        if shard:
            self._begun.append(shard)
            self._committer.add(shard)
        return True

    def _take_in_hand(self, work: Work) -> InHand | None:
        """A shard's songs as futures: those whose text is on disk already are read back, not made again."""
        songs: dict[int, Future[Song]] = {work.first + offset: Future() for offset in range(work.count)}
        before = empty_tally()
        try:
            manifest, stored = stored_songs(self._directory, work.shard)
            grown = manifest.first == work.first and manifest.count < work.count
            if grown or not work.text:
                before = manifest.attempts
                for song in stored:
                    songs[song.id].set_result(song)
        except DamagedError as error:
            if not work.text and not self._machine.samples:
                self._source.release(work.shard)
                self._give_up(work, str(error))
                return None
        unknown = {song: future for song, future in songs.items() if not future.done()}
        if unknown:
            self._begin_sampling()
        if work.audio:
            self._machine.check_sound()
        self._to_begin.extend(unknown.items())
        work = replace(work, text=work.text or bool(unknown))
        return InHand(work=work, songs=deque(songs.values()), attempts_before=before)

    def _begin_sampling(self) -> None:
        engine = None if self._chains else self._machine.engine()
        if engine:
            self._chains = Chains(engine, self._pool, self._plan)
            self._made_by["device"] = str(engine.device)

    def _stages(self) -> dict[str, float]:
        """Seconds so far: of the clock for sampling, of processors for what the pool does."""
        return {
            "sampling": self._sampling_seconds,
            "judging": self._pool.seconds["judge"],
            "recording": self._pool.seconds["record"],
        }

    def _take_song(self, shard: InHand, song: Song) -> None:
        self._source.taken_up(shard.work.shard, shard.taken_up, song)

    def _take_shard(self, shard: InHand, fault: str) -> None:
        self._begun.remove(shard)
        for song in list(shard.songs):
            song.cancel()  # those of a shard that is given up
        self._source.release(shard.work.shard)
        if fault == AGAIN:
            self._source.again(shard.work)
        elif fault:
            self._give_up(shard.work, fault)
        else:
            self.made.shards.append(shard.work.shard)
        self._changed.set()

    def _give_up(self, work: Work, fault: str) -> None:
        self.made.faults.append(f"shard {work.shard}: {fault}")

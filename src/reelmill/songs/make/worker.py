"""One worker: a process on one processor that makes shards, the text half of each first, then its sound.

The engine's slots stay full across the borders of shards: while the last songs of one are finishing, the
first of the next have begun. A shard's text is written when its last song is there, and its sound is then
rendered from it, in this process. Rendering and writing hold sampling back, so nothing piles up before a slow
disk.

A kill costs what is in hand: the songs that are in slots or finished and stand in no text shard yet (of these
at most ``UNWRITTEN`` times as many as there are slots), and the sound of one shard.
"""

from __future__ import annotations

import datetime
import errno
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import reelmill
from reelmill.audio.encode import extension
from reelmill.audio.process import ToolError
from reelmill.config import Config
from reelmill.errors import DamagedError
from reelmill.songs.make.fingerprint import require_same_sound, tested_engine
from reelmill.songs.make.scheduler import Scheduler, Work
from reelmill.songs.make.sounds import Sounds
from reelmill.songs.store.leases import Leases
from reelmill.songs.store.manifest import Failure, Kind, committing, has_leftovers, read_manifest
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.reader import stored_songs
from reelmill.songs.store.song import Song, audio_members, empty_tally, text_members

if TYPE_CHECKING:  # torch is for who samples
    from reelmill.model import TrainedModel
    from reelmill.songs.make.sampler import Sampler

_log = logging.getLogger(__name__)

# Songs are written in order, and one that takes many attempts holds up those behind it. So many times the
# slots may be finished meanwhile: with half of it slots stand empty, with twice of it a kill costs double.
UNWRITTEN = 8
_LOOK_AGAIN = 0.25  # seconds between two looks for work where there was none
_HOPELESS = 128  # attempts
_TIDIED_UP = {errno.ENOENT, errno.ESTALE}  # how a file fares that somebody removes, here or elsewhere on NFS


class Listener(Protocol):
    """Who is told what a worker has done."""

    def songs(self, halves: int) -> None:
        """So many more songs have their text, or their sound."""

    def text(self, songs: int, failed: int, attempts: dict[str, int]) -> None:
        """The text half of a shard is written."""

    def shard(self, number: int) -> None:
        """A shard is finished, or another half of it."""

    def fault(self, reason: str) -> None:
        """The machine keeps a shard from being made."""


@dataclass
class _Begun:
    """A shard whose text is being made."""

    work: Work
    songs: dict[int, Song] = field(default_factory=dict)  # finished
    attempts: Counter[str] = field(default_factory=lambda: Counter(empty_tally()))
    began: float = field(default_factory=time.monotonic)

    @property
    def complete(self) -> bool:
        return len(self.songs) == self.work.count

    @property
    def missing(self) -> list[int]:
        ids = range(self.work.first, self.work.first + self.work.count)
        return [song for song in ids if song not in self.songs]

    def in_order(self) -> list[Song]:
        return [song for _, song in sorted(self.songs.items())]


class Worker:
    """Makes what ``scheduler`` hands out; without a ``model`` only sound, of stored text.

    ``share`` is the name of the share it works for, as one of so many ``workers``, for the manifests.
    ``stop`` is called between any two steps, and ends the work by raising.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        config: Config,
        model: TrainedModel | None,
        scheduler: Scheduler,
        leases: Leases,
        listener: Listener,
        *,
        share: str,
        workers: int = 1,
        executor: Executor | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory, self._plan, self._config, self._model = directory, plan, config, model
        self._scheduler, self._leases, self._listener = scheduler, leases, listener
        self._executor, self._stop = executor, stop
        self._sampler: Sampler | None = None
        self._sounds: Sounds | None = None
        self._begun: dict[int, _Begun] = {}  # by shard, in the order in which they were begun
        self._to_begin: deque[int] = deque()
        self._next_look = 0.0
        self._rendering_seconds = 0.0
        self._counted: dict[str, float] = {}  # of the seconds by stage, what stands in manifests
        self._finished = 0.0  # when the last shard was
        self._faulty = self._hopeless = False
        self._made_by = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "share": share,
            "workers": workers,
            "reelmill": reelmill.__version__,
            "device": "",
        }

    def run(self) -> None:
        """Work until there is nothing left. Raises RequestError if this machine would make other bytes than
        the plan's other workers, before it makes any.
        """
        if self._model and self._scheduler.needs("text"):
            self._begin_sampling()
        if self._scheduler.needs("audio"):
            self._begin_sounds()
        while self._step():
            self._stop()

    def _step(self) -> bool:
        self._fill()
        if self._sampler and self._sampler.active:
            self._advance(self._sampler)
        elif self._scheduler.waits and not self._faulty:
            time.sleep(_LOOK_AGAIN)
        else:
            return False
        return True

    def _fill(self) -> None:
        """Begin songs while slots are free and not too much is unwritten.

        A shard is begun, and leased, no sooner than a slot is free for its first song: only so few are in
        hand as the slots need, and a kill costs no more.
        """
        while self._may_begin():
            if self._to_begin and self._sampler:
                self._sampler.begin(self._to_begin.popleft())
            elif not self._open_shard():
                return

    def _may_begin(self) -> bool:
        if self._sampler is None or not self._sampler.active:
            return True
        unwritten = sum(len(shard.songs) for shard in self._begun.values())
        return self._sampler.room > 0 and unwritten <= UNWRITTEN * self._sampler.slots

    def _open_shard(self) -> bool:
        if time.monotonic() < self._next_look:
            return False
        work = self._scheduler.next(self._leases)
        if work is None:
            self._next_look = time.monotonic() + _LOOK_AGAIN
            return False
        if work.text:
            self._begin(work)
        else:
            self._add_sound(work)
        return True

    def _begin(self, work: Work) -> None:
        """Begin a shard; songs that a shorter shard of a smaller plan has are not made again."""
        shard = self._begun[work.shard] = _Begun(work)
        try:
            manifest, stored = stored_songs(self._directory, work.shard)
            if manifest.first == work.first and manifest.count < work.count:
                shard.attempts.update(manifest.attempts)
                shard.songs.update((song.id, song) for song in stored)
        except DamagedError:
            pass
        self._begin_sampling()
        self._to_begin.extend(shard.missing)

    def _add_sound(self, work: Work) -> None:
        """Make the sound of a shard whose text is there; that text is made again if it cannot be read."""
        shard = _Begun(work)
        try:
            _, stored = stored_songs(self._directory, work.shard)
        except DamagedError as damage:
            if self._model:
                self._begin(replace(work, text=True))
            else:
                self._give_up(work, str(damage))
            return
        shard.songs = {song.id: song for song in stored}
        self._finish(shard)

    def _begin_sampling(self) -> None:
        if self._sampler is None and self._model:
            from reelmill.songs.make.sampler import Sampler

            engine = tested_engine(self._directory, self._plan, self._config, self._model)
            self._sampler = Sampler(engine, self._plan, self._executor)
            self._made_by["device"] = str(engine.device)

    def _begin_sounds(self) -> Sounds:
        if self._sounds is None:
            self._sounds = Sounds(self._config.audio)
            require_same_sound(self._directory, self._config.audio)
        return self._sounds

    def _advance(self, sampler: Sampler) -> None:
        for song in sampler.advance():
            shard = self._begun[self._plan.shard_of(song.id)]
            shard.songs[song.id] = song
            shard.attempts.update(song.tally)
            self._progress(shard.work, len(shard.songs))
        while sampler.faults:
            song_id, reason = sampler.faults.popleft()
            if shard_of := self._begun.get(self._plan.shard_of(song_id)):
                self._give_up(shard_of.work, reason)
        for shard in [shard for shard in self._begun.values() if shard.complete]:
            self._finish(shard)
        if not self._hopeless and sampler.attempts >= _HOPELESS and not sampler.songs:
            self._hopeless = True
            _log.warning(
                "none of the first %d attempts is a song; the last: %s", sampler.attempts, sampler.last_reason
            )

    def _progress(self, work: Work, songs: int) -> None:
        self._listener.songs(1)
        self._leases.report(work.shard, songs // work.halves)

    def _give_up(self, work: Work, reason: str) -> None:
        """Leave a shard to whoever comes next; what the machine prevents here it may not prevent there."""
        self._begun.pop(work.shard, None)
        ids = range(work.first, work.first + work.count)
        self._to_begin = deque(song for song in self._to_begin if song not in ids)
        if self._sampler:
            self._sampler.forget(ids)
        self._leases.release(work.shard)
        self._faulty = True
        self._listener.fault(f"shard {work.shard}: {reason}")

    def _finish(self, shard: _Begun) -> None:
        """Write what is to be made of a shard whose songs are all there."""
        work = shard.work
        try:
            if work.text:
                self._write_text(shard)
            if work.audio:
                self._write_audio(shard)
            self._finished = time.monotonic()
            self._listener.shard(work.shard)
        except ToolError as error:
            self._give_up(work, str(error))
        except _SupersededError:
            pass
        except OSError as error:
            if error.errno not in _TIDIED_UP:
                raise
            # Another worker has finished a half of it and tidied up ours.
            self._scheduler.again(work)
        finally:
            self._begun.pop(work.shard, None)
            self._leases.release(work.shard)

    def _write_text(self, shard: _Begun) -> None:
        songs = shard.in_order()
        failed = [Failure(id=song.id, reason=song.failure) for song in songs if song.failure]
        with committing(self._directory, "text", shard.work.shard) as commit:
            for song in songs:
                commit.add_all(text_members(song))
            commit.facts = self._facts("text", shard.work, failed, dict(shard.attempts))
            commit.made_by = self._describe(shard)
        self._listener.text(len(songs), len(failed), dict(shard.attempts))

    def _write_audio(self, shard: _Begun) -> None:
        sounds, ending = self._begin_sounds(), extension(self._config.audio)
        songs, failed = shard.in_order(), list[Failure]()
        if has_leftovers(self._directory, "audio", shard.work.shard):
            sounds.try_out(songs)  # whoever was making it may have been killed by one of its songs
        with committing(self._directory, "audio", shard.work.shard) as commit:
            for done, song in enumerate(songs, start=1):
                began = time.monotonic()
                sound = sounds.record(song)
                self._rendering_seconds += time.monotonic() - began
                if sound.failure:
                    failed.append(Failure(id=song.id, reason=sound.failure))
                commit.add_all(audio_members(song, sound, ending))
                self._progress(shard.work, len(songs) * shard.work.text + done)
                self._stop()
            commit.facts = self._facts("audio", shard.work, failed, {})
            commit.made_by = self._describe(shard)

    def _facts(
        self, kind: Kind, work: Work, failed: Sequence[Failure], attempts: dict[str, int]
    ) -> dict[str, Any]:
        """What the manifest of a half says, the same whoever makes it."""
        try:
            if read_manifest(self._directory, kind, work.shard).count > work.count:
                raise _SupersededError
        except DamagedError:
            pass
        return {
            "first": work.first,
            "count": work.count,
            "failed": [asdict(failure) for failure in failed],
            "attempts": attempts,
        }

    def _describe(self, shard: _Begun) -> dict[str, Any]:
        """Who made a half, when, and how fast; the stages' seconds are those since the last manifest."""
        # The next shard begins while the last songs of one are finishing: that time is counted once.
        seconds = time.monotonic() - max(shard.began, self._finished)
        stages = {**(self._sampler.seconds if self._sampler else {}), "rendering": self._rendering_seconds}
        spent = {stage: round(total - self._counted.get(stage, 0.0), 3) for stage, total in stages.items()}
        self._counted = stages
        return {
            **self._made_by,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "songs_per_second": round(shard.work.count / seconds, 3) if seconds else 0.0,
            "characters": sum(int(song.facts.get("characters", 0)) for song in shard.songs.values()),
            "stages": spent,
        }


class _SupersededError(Exception):
    """The plan has grown, and another worker has already made the longer shard."""

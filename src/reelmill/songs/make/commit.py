"""From finished songs to finished shards: a thread that records songs in order and writes the tars.

Songs are finished in any order and needed in one. Their text is small and waits in memory; their sound is
large, so it is recorded only when its turn is near, and goes to disk at once.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reelmill.audio.process import ToolError
from reelmill.errors import DamagedError
from reelmill.songs.make.pool import Pool
from reelmill.songs.make.scheduler import Work
from reelmill.songs.store.manifest import Commit, Failure, Kind, check, committing, read_manifest
from reelmill.songs.store.song import Song, audio_members, empty_tally, text_members
from reelmill.songs.store.sound import Sound

_TIDIED_UP = {errno.ENOENT, errno.ESTALE}  # how a file fares that somebody removes, here or elsewhere on NFS

AGAIN = "to be looked at again"
"""Given to ``on_shard`` in place of a fault where another worker was faster with a part of a shard."""


@dataclass(kw_only=True)
class InHand:
    """A shard being made: a future for each song not yet taken up, in order of ids."""

    work: Work
    songs: deque[Future[Song]]
    attempts_before: dict[str, int] = field(default_factory=empty_tally)  # of songs from a shorter shard
    taken_up: int = 0  # ids, in order
    failed: int = 0  # of them
    characters: int = 0  # of the songs among them
    began: float = field(default_factory=time.monotonic)


class Committer:
    """Takes shards in hand and finishes them, one after the other, in a thread of its own.

    ``stages`` gives seconds so far by stage. ``on_song`` is called for each song as it is taken up, in order;
    ``on_shard`` for each shard, with the fault that kept it from being made, "" for one that is finished.
    Both run in the committer's thread.
    """

    def __init__(
        self,
        directory: Path,
        pool: Pool,
        extension: str,
        made_by: dict[str, Any],
        stages: Callable[[], dict[str, float]],
        on_song: Callable[[InHand, Song], None],
        on_shard: Callable[[InHand, str], None],
    ) -> None:
        self._directory, self._pool, self._extension = directory, pool, extension
        self._made_by, self._stages, self._on_song, self._on_shard = made_by, stages, on_song, on_shard
        self._counted = stages()  # of the seconds by stage, what stands in manifests or is no shard's
        self._queue: queue.SimpleQueue[InHand | None] = queue.SimpleQueue()
        self._ahead = 2 * pool.processes + 2  # sounds being recorded or waiting to be written
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self.starved = True  # waiting for a song that is not finished
        self.backlog = 0  # songs that are finished and not yet taken up
        self.in_hand = 0  # shards
        self._stopped = False
        self._finished = 0.0  # when the last shard was
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, shard: InHand) -> None:
        """Take a shard. Its songs may be unfinished."""
        for song in shard.songs:
            song.add_done_callback(lambda _: self._waiting(1))
        with self._lock:
            self.in_hand += 1
        self._queue.put(shard)

    def stop(self) -> None:
        """Give up every shard that is not finished, as soon as possible."""
        self._stopped = True

    def close(self) -> None:
        """Wait until every shard is finished or given up; after ``stop``, with their songs cancelled."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (shard := self._queue.get()) is not None:
            try:
                fault = "" if self.error else self._fault(shard)
                self._on_shard(shard, fault)
            except BaseException as error:
                self.error = self.error or error
            finally:
                with self._lock:
                    self.in_hand -= 1

    def _fault(self, shard: InHand) -> str:
        """Finish a shard; the fault of the machine that prevented it, or ""."""
        try:
            self._commit(shard)
            self._finished = time.monotonic()
        except CancelledError:
            return "given up"
        except ToolError as error:
            return str(error)
        except _SupersededError:
            pass
        except OSError as error:
            if error.errno not in _TIDIED_UP:
                raise
            # Another worker has finished a half of it and tidied up ours.
            return AGAIN if self._missing(shard.work) else ""
        finally:
            for song in shard.songs:
                song.add_done_callback(lambda _: self._waiting(-1))
        return ""

    def _missing(self, work: Work) -> bool:
        halves: list[tuple[Kind, bool]] = [("text", work.text), ("audio", work.audio)]
        try:
            for kind in (kind for kind, wanted in halves if wanted):
                check(self._directory, kind, work.shard, work.first, work.count)
        except DamagedError:
            return True
        return False

    def _commit(self, shard: InHand) -> None:
        work, directory = shard.work, self._directory
        with contextlib.ExitStack() as outer:
            audio = outer.enter_context(committing(directory, "audio", work.shard)) if work.audio else None
            sounds = _Sounds(audio, self._extension)
            with contextlib.ExitStack() as inner:
                text = inner.enter_context(committing(directory, "text", work.shard)) if work.text else None
                failed, tally = [], Counter(shard.attempts_before)
                while shard.songs:
                    song = self._take_up(shard)
                    tally.update(song.tally)
                    if song.failure:
                        failed.append(Failure(id=song.id, reason=song.failure))
                    elif text:
                        text.add_all(text_members(song))
                    if audio:
                        sounds.expect(
                            song, None if song.failure else self._pool.record(song.facts, song.midi)
                        )
                        self._write(sounds, self._ahead)
                if text:
                    self._describe(text, "text", shard, failed, dict(tally))
            if audio:
                self._write(sounds, 0)
                self._describe(audio, "audio", shard, sounds.failed, {})

    def _write(self, sounds: _Sounds, ahead: int) -> None:
        """Write until at most ``ahead`` sounds are on their way."""
        while len(sounds) > ahead:
            if self._stopped:
                raise CancelledError
            sounds.write_one()

    def _take_up(self, shard: InHand) -> Song:
        """Wait for the next song. What has been taken up is no longer kept in memory."""
        if self._stopped:
            raise CancelledError
        self.starved = not shard.songs[0].done()
        try:
            song = shard.songs[0].result()
        finally:
            self.starved = False
        shard.songs.popleft()
        shard.taken_up += 1
        shard.failed += bool(song.failure)
        shard.characters += int(song.facts.get("characters", 0))
        self._waiting(-1)
        self._on_song(shard, song)
        return song

    def _describe(
        self, commit: Commit, kind: Kind, shard: InHand, failed: list[Failure], tally: dict[str, int]
    ) -> None:
        work = shard.work
        with contextlib.suppress(DamagedError):
            if read_manifest(self._directory, kind, work.shard).count > work.count:
                raise _SupersededError
        # The next shard begins while the last songs of one are finishing: that time is counted once.
        seconds = time.monotonic() - max(shard.began, self._finished)
        commit.facts = {
            "first": work.first,
            "count": work.count,
            "failed": [asdict(failure) for failure in failed],
            "attempts": tally,
        }
        commit.made_by = {
            **self._made_by,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "songs_per_second": round(work.count / seconds, 3) if seconds else 0.0,
            "characters": shard.characters,
            "stages": self._stage_seconds(),
        }

    def _stage_seconds(self) -> dict[str, float]:
        """Seconds by stage since the last manifest, so that those of all manifests add up. A tar's writing is
        counted where it is written.
        """
        now = self._stages()
        spent = {stage: round(seconds - self._counted.get(stage, 0.0), 3) for stage, seconds in now.items()}
        self._counted = now
        return spent

    def _waiting(self, songs: int) -> None:
        with self._lock:
            self.backlog += songs


class _SupersededError(Exception):
    """The plan has grown, and another worker has already made the longer shard."""


class _Sounds:
    """Sounds on their way, written in the order in which they were asked for."""

    def __init__(self, commit: Commit | None, extension: str) -> None:
        self.failed: list[Failure] = []
        self._commit, self._extension = commit, extension
        self._coming: deque[tuple[Song, Future[Sound] | None]] = deque()

    def expect(self, song: Song, sound: Future[Sound] | None) -> None:
        self._coming.append((song, sound))

    def __len__(self) -> int:
        return len(self._coming)

    def write_one(self) -> None:
        """Wait for the first sound on its way and write it."""
        song, coming = self._coming.popleft()
        sound = coming.result() if coming else Sound(facts={}, failure=song.failure)
        if sound.failure:
            self.failed.append(Failure(id=song.id, reason=sound.failure))
        elif self._commit:
            self._commit.add_all(audio_members(song, sound, self._extension))
        sound.release()

"""All workers of one command: that of its own process, and more as processes beside it, one a processor.

A worker samples on one processor, so one alone leaves others idle (a song of many attempts holds up those
behind it). The processes ask for work and tell what became of it over a socket each, and a thread here
answers (``worker_process`` is their side). They end when this process does, however it ends; one that is lost
gives its shards back, for they are still leased to this process.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any

from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.make.channel import Channel
from reelmill.songs.make.scheduler import Share, Work
from reelmill.songs.make.spawn import ending, spawn
from reelmill.songs.make.worker import Made
from reelmill.songs.store.leases import Leases
from reelmill.songs.store.song import Song

_log = logging.getLogger(__name__)

MODULE = "reelmill.songs.make.worker_process"
_PATIENCE = 10.0  # seconds that workers get to give up what they have in hand
_SILENCE = 1800.0  # seconds after which one that says nothing is taken for stuck


class CommonWork:
    """The work of one command, for its own worker as ``Source`` and for others (``lend``).

    ``on_song`` is called in the thread that speaks for the worker which took a song up.
    """

    def __init__(self, share: Share, leases: Leases, on_song: Callable[[Song], None]) -> None:
        self._share, self._leases, self._on_song = share, leases, on_song
        self._lock = threading.RLock()
        self._lent: set[int] = set()
        self._failure: BaseException | None = None

    @property
    def waits(self) -> bool:
        """Also as long as others have shards in hand, which may come back."""
        with self._lock:
            self._fail()
            return bool(self._lent) or self._share.waits

    def next(self) -> Work | None:
        with self._lock:
            self._fail()
            return self._share.next(self._leases)

    def lend(self) -> tuple[Work | None, bool]:
        """The same for a worker elsewhere, and whether it is to ask again later."""
        with self._lock:
            if self._failure:
                return None, False
            work = self._share.next(self._leases)
            if work:
                self._lent.add(work.shard)
            return work, self._share.waits

    def taken_up(self, shard: int, songs: int, song: Song) -> None:
        self._leases.report(shard, songs)
        self._on_song(song)

    def release(self, shard: int) -> None:
        with self._lock:
            self._leases.release(shard)
            self._lent.discard(shard)

    def again(self, work: Work) -> None:
        with self._lock:
            self._share.again(work)

    def doubt(self) -> list[str]:
        with self._lock:
            return self._share.doubt()

    def fail(self, failure: BaseException) -> None:
        """Have this process's own worker end with what went wrong elsewhere."""
        with self._lock:
            self._failure = self._failure or failure

    def _fail(self) -> None:
        if self._failure:
            raise self._failure


class Workers:
    """``count`` workers on ``work``; ``task`` is what each is told first (see ``worker_process``).

    Leaving the block waits until they have ended; after an error it has them end at once.
    """

    def __init__(self, count: int, task: dict[str, Any], work: CommonWork) -> None:
        self.made = Made()  # by all of them
        self._task, self._work = task, work
        self._lock = threading.Lock()
        self._closing = False
        self._running: set[_Running] = set()
        self._threads = [threading.Thread(target=self._keep_one, daemon=True) for _ in range(count)]

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for thread in self._threads:
                    thread.join()
        finally:  # also where the wait for them is broken off
            self._end_all()
            for thread in self._threads:
                thread.join(_PATIENCE)
            with self._lock:
                running = list(self._running)
            for stuck in running:
                stuck.process.kill()

    def _end_all(self) -> None:
        with self._lock:
            self._closing = True
            running = list(self._running)
        for one in running:
            one.end()

    def _keep_one(self) -> None:
        """Have one process work until there is nothing left. One that is lost after it has been of use is
        replaced; what it had in hand is made again in any case.
        """
        useful = True
        while useful:
            with self._lock:
                if self._closing:
                    return
                try:
                    one = _Running(self._work)
                except OSError as error:  # no more processes, or no more memory
                    _log.warning("going on with a worker less: %s", error)
                    return
                self._running.add(one)
            threading.current_thread().name = f"worker process {one.process.pid}"
            try:
                made = one.serve(self._task)
            except BaseException as error:  # of this side: on a full disk no lease can be taken
                self._work.fail(error)
                return
            finally:
                with self._lock:
                    self._running.discard(one)
            if made is not None:
                with self._lock:
                    self.made.add(made)
                return
            if self._closing or one.failed:
                return
            useful = one.finished > 0
            _log.warning(
                "a worker process was lost (%s); what it had in hand is made again%s",
                ending(one.process),
                "" if useful else ", by the others",
            )


class _Running:
    """One process, seen from the thread that answers it."""

    def __init__(self, work: CommonWork) -> None:
        self.failed = False  # and has said so
        self.finished = 0  # shards
        self._work = work
        self._in_hand: dict[int, Work] = {}
        self.process, self._socket = spawn(MODULE)
        self._channel = Channel(self._socket)

    def end(self) -> None:
        """Let the process see that it is to give up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def serve(self, task: dict[str, Any]) -> Made | None:
        """Answer until the process has ended: what it has made, or None if it was lost."""
        try:
            self._send(task)
            while True:
                message = self._channel.receive(_SILENCE)[0]
                if "made" in message:
                    return Made(**message["made"])
                self._answer(message)
        except (EOFError, ConnectionResetError):
            return None
        except TimeoutError:
            self.process.kill()
            return None
        finally:
            for shard, work in list(self._in_hand.items()):
                self._work.release(shard)
                self._work.again(work)
            self._channel.close()
            self.process.wait()

    def _answer(self, message: dict[str, Any]) -> None:
        if message["tell"] == "next":
            work, waits = self._work.lend()
            if work:
                self._in_hand[work.shard] = work
            self._send({"work": asdict(work) if work else None, "waits": waits})
        elif message["tell"] == "taken up":
            song = Song(id=message["song"], failure=message["failure"], tally=message["tally"])
            self._work.taken_up(message["shard"], message["songs"], song)
        elif message["tell"] == "release":
            self._in_hand.pop(message["shard"], None)
            self._work.release(message["shard"])
            self.finished += 1
        elif message["tell"] == "again":
            self._work.again(Work(**message["work"]))
            self.finished -= 1
        elif message["tell"] == "doubt":
            self._send({"problems": self._work.doubt()})
        else:
            self.failed = True
            kind = RequestError if message["tell"] == RequestError.__name__ else IncompleteError
            self._work.fail(kind(message["message"]))

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is about to be found out
            self._channel.send(message)

"""Where workers get their work, and whom they tell what became of it.

All workers of one command share its ``Share`` and its leases. The first runs in the command's own process;
others run in processes beside it (``workers``) and come here by way of threads that speak for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from reelmill.songs.leases import Leases
from reelmill.songs.shares import Share, Work
from reelmill.songs.song import Song


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
        """``Share.doubt``."""
        ...


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

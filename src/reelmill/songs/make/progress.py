"""What a person sees while songs are made: a bar, and a warning where failures are to be expected."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from types import TracebackType

from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from reelmill.songs.store.plan import Plan
from reelmill.songs.store.song import Song

_log = logging.getLogger(__name__)

_FIRST_SONGS = 32  # of a worker, in order of ids: the sample the pass rate is measured on


class Progress:
    """Counts songs as they are taken up, in order; ``total`` is what this command may come to make."""

    def __init__(self, plan: Plan, total: int, visible: bool) -> None:
        self._plan = plan
        self._bar = tqdm(
            total=total, unit="song", disable=not visible, smoothing=0.05, file=_PerhapsRead(sys.stderr)
        )
        self._lock = threading.Lock()
        self._songs = self._attempts = self._passed = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def count(self, song: Song) -> None:
        """Count a song, and warn once the first ones are known if they promise failures. Any thread may."""
        with self._lock:
            self._bar.update(1)
            if not song.tally or self._songs == _FIRST_SONGS:
                return
            self._songs += 1
            self._attempts += song.tally["made"]
            self._passed += not song.failure
            if self._songs == _FIRST_SONGS:
                self._warn()

    def _warn(self) -> None:
        rate = self._passed / self._attempts
        attempts = self._plan.songs_settings.max_attempts
        failures = expected_failures(rate, attempts) * self._plan.songs
        if failures >= 0.5:
            _log.warning(
                "%.1f %% of the first %d attempts passed songs.require = %s: of %d songs about %.0f "
                "will fail after songs.max_attempts = %d",
                100 * rate,
                self._attempts,
                self._plan.songs_settings.require,
                self._plan.songs,
                failures,
                attempts,
            )


class _PerhapsRead(ObjectWrapper):
    """A stream to write to, whether anybody still reads it or not: tqdm would keep its lock on an error."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._wrapped.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._wrapped.flush()


def expected_failures(rate: float, attempts: int) -> float:
    """The share of songs none of whose ``attempts`` passes, each passing with probability ``rate``."""
    return (1 - rate) ** attempts

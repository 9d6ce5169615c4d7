"""What a person sees while songs are made: a bar, and a warning where failures are to be expected."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from types import TracebackType

from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from reelmill.songs.store.plan import Plan

_log = logging.getLogger(__name__)

_SAMPLE = 32  # songs: the fewest that a pass rate is foretold from


class Progress:
    """Counts songs; ``total`` is what this command may come to make, ``halves`` how many each of them has."""

    def __init__(self, plan: Plan, total: int, halves: int, visible: bool) -> None:
        self._plan, self._halves, self._made = plan, halves, 0
        self._bar = tqdm(
            total=total, unit="song", disable=not visible, smoothing=0.05, file=_PerhapsRead(sys.stderr)
        )
        self._tally: Counter[str] = Counter()
        self._warned = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def songs(self, halves: int) -> None:
        """So many more songs have their text, or their sound; a song counts when it has all it is to get."""
        before = self._made // self._halves
        self._made += halves
        self._bar.update(self._made // self._halves - before)

    def text(self, songs: int, failed: int, attempts: dict[str, int]) -> None:
        """A text shard is written: warn once if what is known so far promises failures."""
        self._tally.update(songs=songs, passed=songs - failed, made=attempts.get("made", 0))
        if self._tally["songs"] >= _SAMPLE and self._tally["made"] and not self._warned:
            self._warned = True
            self._warn()

    def _warn(self) -> None:
        rate = self._tally["passed"] / self._tally["made"]
        attempts = self._plan.songs_settings.max_attempts
        failures = expected_failures(rate, attempts) * self._plan.songs
        if failures >= 0.5:
            _log.warning(
                "%.1f %% of the first %d attempts passed songs.require = %s: of %d songs about %.0f "
                "will fail after songs.max_attempts = %d",
                100 * rate,
                self._tally["made"],
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

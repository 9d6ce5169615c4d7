"""The plan of global batches: what is trained on at each step, as a function of (seed, step) alone.

Every process can say what the whole global batch of any step is; which rows it works on is decided last. So a
run may stop anywhere and go on with another number of processes, and no tune is seen twice or missed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reelmill.corpus.vocabulary import END, START
from reelmill.errors import RequestError
from reelmill.training.encoded import EncodedTunes
from reelmill.training.randomness import keyed_below, keyed_permutation
from reelmill.training.settings import TrainingSettings

IGNORED = -100
"""Target that costs nothing: what follows the end of a tune is no part of it."""

_WINDOWS, _ORDER, _COPIES = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """One global batch: ``inputs`` and ``targets`` are int64 [rows, time]."""

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    @property
    def characters(self) -> int:
        """How many targets count."""
        return int(np.count_nonzero(self.targets != IGNORED))

    @property
    def digest(self) -> str:
        """A short hash of the contents, the same wherever the batch is made."""
        return hashlib.sha256(self.inputs.tobytes() + self.targets.tobytes()).hexdigest()[:16]


class Plan(Protocol):
    """``carries``: whether the model's state goes on from one step's rows to the next step's."""

    carries: bool

    def batch(self, step: int) -> Batch:
        """The global batch of the update that follows ``step`` updates."""
        ...


def make_plan(settings: TrainingSettings, tunes: EncodedTunes) -> Plan:
    """The plan that ``settings.batches`` names."""
    if settings.batches == "random":
        return RandomWindows(tunes, settings.seed, settings.batch_size, settings.sequence_length)
    return Streams(tunes, settings.seed, settings.batch_size, settings.sequence_length)


class RandomWindows:
    """The 6.S191 recipe: windows at random places of all tunes put one behind the other."""

    carries = False

    def __init__(self, tunes: EncodedTunes, seed: int, rows: int, length: int) -> None:
        self.tunes, self.seed, self.rows, self.length = tunes, seed, rows, length
        if len(tunes.characters) <= length:
            raise RequestError(
                f"training.sequence_length = {length}: the training tunes have only "
                f"{len(tunes.characters)} characters; choose a smaller one"
            )

    def batch(self, step: int) -> Batch:
        places = len(self.tunes.characters) - self.length
        starts = keyed_below(places, _WINDOWS, self.seed, step, np.arange(self.rows))
        windows = self.tunes.characters[starts[:, None] + np.arange(self.length + 1)]
        return _batch(windows.astype(np.int64))


class Streams:
    """Every tune once an epoch, in an order of its own for each epoch, cut into one stream a row.

    Row r of an epoch reads the r-th part of the tunes put one behind the other, ``length`` characters a step;
    the epoch's last step is shorter. Of a tune's transposed copies each epoch takes one.
    """

    carries = True

    def __init__(self, tunes: EncodedTunes, seed: int, rows: int, length: int) -> None:
        self.tunes, self.seed, self.rows, self.length = tunes, seed, rows, length
        self._first_steps = [0]  # of each epoch as far as known
        self._epoch = lru_cache(maxsize=2)(self._lay_out)

    def batch(self, step: int) -> Batch:
        epoch = self._epoch_of(step)
        order = self._epoch(epoch)
        parts = _parts(order.total, self.rows)
        begin = (step - self._first_steps[epoch]) * self.length
        time = min(self.length, int(np.diff(parts).max()) - begin)
        # END where a row has come to its end one character before another.
        inputs = np.full((self.rows, time), END, dtype=np.int64)
        targets = np.full((self.rows, time), IGNORED, dtype=np.int64)
        for row in range(self.rows):
            start, stop = int(parts[row]) + begin, int(parts[row + 1])
            count = min(time, stop - start)
            if count > 0:
                read = order.read(start, min(count + 1, order.total - start))
                inputs[row, :count] = read[:count]
                targets[row, : len(read) - 1] = read[1:]
        targets[targets == START] = IGNORED
        return Batch(inputs, targets)

    def epoch_of(self, step: int) -> int:
        """Which pass over the tunes a step belongs to, from 0."""
        return self._epoch_of(step)

    def _epoch_of(self, step: int) -> int:
        while self._first_steps[-1] <= step:
            longest = np.diff(_parts(self._total(len(self._first_steps) - 1), self.rows)).max()
            self._first_steps.append(self._first_steps[-1] + -(-int(longest) // self.length))
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def _chosen(self, epoch: int) -> npt.NDArray[np.int64]:
        """The text of each tune that this epoch reads (int64 [tunes])."""
        first, counts = self.tunes.tunes[:-1], np.diff(self.tunes.tunes)
        if counts.max() == 1:
            return first
        draws = keyed_below(2**63, _COPIES, self.seed, epoch, np.arange(len(counts)))
        return first + draws % counts

    def _total(self, epoch: int) -> int:
        chosen = self._chosen(epoch)
        return int((self.tunes.bounds[chosen + 1] - self.tunes.bounds[chosen]).sum())

    def _lay_out(self, epoch: int) -> _Epoch:
        chosen = self._chosen(epoch)[keyed_permutation(len(self.tunes), _ORDER, self.seed, epoch)]
        lengths = self.tunes.bounds[chosen + 1] - self.tunes.bounds[chosen]
        return _Epoch(self.tunes, chosen, np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True)
class _Epoch:
    """Texts one behind the other: ``texts`` in their order, ``places`` where each begins."""

    tunes: EncodedTunes
    texts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.places[-1])

    def read(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """``count`` characters from ``start`` on."""
        pieces = []
        text = int(np.searchsorted(self.places, start, side="right")) - 1
        while count > 0:
            skipped = start - int(self.places[text])
            begin = int(self.tunes.bounds[self.texts[text]]) + skipped
            piece = min(count, int(self.places[text + 1]) - start)
            pieces.append(self.tunes.characters[begin : begin + piece])
            start, count, text = start + piece, count - piece, text + 1
        return np.concatenate(pieces).astype(np.int64)


def _parts(total: int, rows: int) -> npt.NDArray[np.int64]:
    return np.array([total * row // rows for row in range(rows + 1)], dtype=np.int64)


def _batch(windows: npt.NDArray[np.int64]) -> Batch:
    targets = windows[:, 1:].copy()
    targets[targets == START] = IGNORED
    return Batch(np.ascontiguousarray(windows[:, :-1]), targets)

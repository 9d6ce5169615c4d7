"""What a step is: its global batch and its learning rate, functions of (seed, step) alone.

Which rows of the global batch a process works on is decided last, and a process builds only those. So a run
may stop anywhere and go on with another number of processes, and no tune is seen twice or missed. (The
sampler that Accelerate prepares skips and repeats rows when a run is resumed in mid-epoch.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reelmill.corpus.encoded import EncodedTunes
from reelmill.corpus.vocabulary import END, START
from reelmill.errors import RequestError
from reelmill.randomness import keyed_below, keyed_permutation
from reelmill.training.settings import TrainingSettings

IGNORED = -100
"""Target that costs nothing: what follows the end of a tune is no part of it."""

_WINDOWS, _ORDER, _COPIES, _BATCHES = 1, 2, 3, 4  # streams of random numbers
_POOL = 8  # batches' tunes that are sorted by length

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a step's global batch: ``inputs`` and ``targets``, int64 [rows, time]."""

    inputs: Integers
    targets: Integers


@dataclass(frozen=True)
class Facts:
    """What is true of a step's whole global batch, known without building its rows.

    ``characters``: how many targets count. ``digest``: a short hash of where each row begins in the training
    tunes, the same on every process. ``epoch``: which pass over the tunes, None if there is no such thing.
    """

    characters: int
    digest: str
    epoch: int | None


class BatchSchedule(Protocol):
    """``carries``: whether the model's state goes on from one step's rows to the next step's."""

    carries: bool

    def rows(self, step: int, rows: range) -> Rows:
        """Build ``rows`` of the global batch of the update that follows ``step`` updates."""
        ...

    def facts(self, step: int) -> Facts:
        """Describe the global batch of that update."""
        ...


def batch_schedule(settings: TrainingSettings, tunes: EncodedTunes) -> BatchSchedule:
    """Return the schedule that ``settings.batches`` names."""
    kinds: dict[str, Callable[[EncodedTunes, int, int, int], BatchSchedule]]
    kinds = {"random": RandomWindows, "stream": Streams, "tunes": WholeTunes}
    return kinds[settings.batches](tunes, settings.seed, settings.batch_size, settings.sequence_length)


class RandomWindows:
    """The 6.S191 recipe: windows at random places of all tunes put one behind the other."""

    carries = False

    def __init__(self, tunes: EncodedTunes, seed: int, batch_size: int, length: int) -> None:
        self.tunes, self.seed, self.batch_size, self.length = tunes, seed, batch_size, length
        if len(tunes.characters) <= length:
            raise RequestError(
                f"training.sequence_length = {length}: the training tunes have only "
                f"{len(tunes.characters)} characters; choose a smaller one"
            )

    def rows(self, step: int, rows: range) -> Rows:
        windows = self.tunes.characters[self._starts(step, rows)[:, None] + np.arange(self.length + 1)]
        return _rows(windows[:, :-1], windows[:, 1:])

    def facts(self, step: int) -> Facts:
        starts = self._starts(step, range(self.batch_size))
        characters = len(starts) * self.length - _tunes_begun(self.tunes.bounds[:-1], starts, self.length)
        return Facts(characters, _digest(starts), None)

    def _starts(self, step: int, rows: range) -> Integers:
        places = len(self.tunes.characters) - self.length
        return keyed_below(places, _WINDOWS, self.seed, step, np.arange(rows.start, rows.stop))


class Streams:
    """Every tune once an epoch, in an order of its own for each epoch, cut into one stream a row.

    Row r of an epoch reads the r-th part of the tunes put one behind the other, ``length`` characters a step;
    the epoch's last step is shorter. Of a tune's transposed copies each epoch takes one.
    """

    carries = True

    def __init__(self, tunes: EncodedTunes, seed: int, batch_size: int, length: int) -> None:
        self.tunes, self.seed, self.batch_size, self.length = tunes, seed, batch_size, length
        self._first_steps = [0]  # of each epoch as far as known
        self._epoch = lru_cache(maxsize=2)(self._lay_out)

    def rows(self, step: int, rows: range) -> Rows:
        order = self._epoch(self._epoch_of(step))
        starts, counts = self._spans(step)
        time = counts.max()
        places = starts[rows.start : rows.stop, None] + np.arange(time)
        inside = np.arange(time) < counts[rows.start : rows.stop, None]
        # END where a row has come to its end one character before another.
        inputs = np.where(inside, order.read(places), END)
        targets = np.where(inside & (places + 1 < order.total), order.read(places + 1), IGNORED)
        return _rows(inputs, targets)

    def facts(self, step: int) -> Facts:
        epoch = self._epoch_of(step)
        order = self._epoch(epoch)
        starts, counts = self._spans(step)
        followed = np.clip(order.total - 1 - starts, 0, counts)  # the very last character has no target
        characters = int(followed.sum()) - _tunes_begun(order.places[:-1], starts, followed)
        return Facts(characters, _digest(order.absolute(starts), counts), epoch)

    def _spans(self, step: int) -> tuple[Integers, Integers]:
        """Where each row of the global batch begins in its epoch, and how many characters it reads."""
        epoch = self._epoch_of(step)
        parts = _parts(self._epoch(epoch).total, self.batch_size)
        starts = parts[:-1] + (step - self._first_steps[epoch]) * self.length
        return starts, np.clip(parts[1:] - starts, 0, self.length)

    def _epoch_of(self, step: int) -> int:
        while self._first_steps[-1] <= step:
            longest = np.diff(_parts(self._total(len(self._first_steps) - 1), self.batch_size)).max()
            self._first_steps.append(self._first_steps[-1] + -(-int(longest) // self.length))
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def _total(self, epoch: int) -> int:
        chosen = _chosen(self.tunes, self.seed, epoch)
        return int((self.tunes.bounds[chosen + 1] - self.tunes.bounds[chosen]).sum())

    def _lay_out(self, epoch: int) -> _Epoch:
        chosen = _chosen(self.tunes, self.seed, epoch)
        chosen = chosen[keyed_permutation(len(self.tunes), _ORDER, self.seed, epoch)]
        lengths = self.tunes.bounds[chosen + 1] - self.tunes.bounds[chosen]
        return _Epoch(self.tunes, chosen, np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True)
class _Epoch:
    """Texts one behind the other: ``texts`` in their order, ``places`` where each begins."""

    tunes: EncodedTunes
    texts: Integers
    places: Integers

    @property
    def total(self) -> int:
        return int(self.places[-1])

    def read(self, places: Integers) -> Integers:
        """The characters at ``places`` of the epoch; anything where there is none."""
        return self.tunes.characters[self.absolute(np.minimum(places, self.total - 1))].astype(np.int64)

    def absolute(self, places: Integers) -> Integers:
        """Where the characters at ``places`` stand among the training tunes."""
        text = np.searchsorted(self.places, places, side="right") - 1
        text = np.minimum(text, len(self.texts) - 1)
        return self.tunes.bounds[self.texts[text]] + places - self.places[text]


class WholeTunes:
    """Every tune once an epoch, a row each, from its start mark on, up to ``length`` characters of it.

    The tunes' order is drawn anew for each epoch; some batches' tunes at a time are sorted by length, so that
    rows of a batch are of like length, and the batches' order is drawn as well. The last tunes of an epoch
    may be fewer than the rows; the rows left have nothing to foretell. Of a tune's transposed copies each
    epoch takes one.
    """

    carries = False

    def __init__(self, tunes: EncodedTunes, seed: int, batch_size: int, length: int) -> None:
        self.tunes, self.seed, self.batch_size, self.length = tunes, seed, batch_size, length
        self._steps = -(-len(tunes) // batch_size)  # an epoch
        self._epoch = lru_cache(maxsize=2)(self._lay_out)

    def rows(self, step: int, rows: range) -> Rows:
        texts = self._texts(step)[rows.start : rows.stop]
        begins, counts = self.tunes.bounds[texts], self._counts(texts)
        time = np.arange(counts.max(initial=1))
        inside = np.zeros((len(rows), len(time)), dtype=bool)
        inside[: len(texts)] = time < counts[:, None]
        inputs, targets = np.full((2, *inside.shape), END, dtype=np.int64)
        for row, (begin, count) in enumerate(zip(begins, counts, strict=True)):
            read = self.tunes.characters[begin : begin + count + 1]
            inputs[row, :count], targets[row, :count] = read[:-1], read[1:]
        return _rows(inputs, np.where(inside, targets, IGNORED))

    def facts(self, step: int) -> Facts:
        texts = self._texts(step)
        counts = self._counts(texts)
        return Facts(int(counts.sum()), _digest(self.tunes.bounds[texts], counts), step // self._steps)

    def _counts(self, texts: Integers) -> Integers:
        """How many characters of each text are foretold, its end mark among them."""
        return np.minimum(self.tunes.bounds[texts + 1] - self.tunes.bounds[texts] - 1, self.length)

    def _texts(self, step: int) -> Integers:
        """The texts of the global batch, one a row; fewer than rows at an epoch's end."""
        return self._epoch(step // self._steps)[step % self._steps]

    def _lay_out(self, epoch: int) -> list[Integers]:
        chosen = _chosen(self.tunes, self.seed, epoch)
        chosen = chosen[keyed_permutation(len(chosen), _ORDER, self.seed, epoch)]
        batches: list[Integers] = []
        for begin in range(0, len(chosen), _POOL * self.batch_size):
            pool = chosen[begin : begin + _POOL * self.batch_size]
            pool = pool[np.argsort(-self._counts(pool), kind="stable")]
            batches += [pool[at : at + self.batch_size] for at in range(0, len(pool), self.batch_size)]
        return [batches[at] for at in keyed_permutation(len(batches), _BATCHES, self.seed, epoch)]


def _chosen(tunes: EncodedTunes, seed: int, epoch: int) -> Integers:
    """The text of each tune that an epoch reads (int64 [tunes])."""
    first, counts = tunes.tunes[:-1], np.diff(tunes.tunes)
    if counts.max() == 1:
        return first
    draws = keyed_below(2**63, _COPIES, seed, epoch, np.arange(len(counts)))
    return first + draws % counts


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The rate of the update that follows ``step`` updates: a linear warm-up, then constant or half a cosine.

    The cosine ends at zero after ``settings.steps`` (Loshchilov & Hutter 2017, without restarts).
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def shares(total: int, parts: int) -> list[range]:
    """Cut 0 … ``total`` - 1 into ``parts`` consecutive ranges whose lengths differ by at most one."""
    bounds = _parts(total, parts).tolist()
    return [range(bounds[part], bounds[part + 1]) for part in range(parts)]


def _parts(total: int, rows: int) -> Integers:
    return np.array([total * row // rows for row in range(rows + 1)], dtype=np.int64)


def _rows(inputs: npt.NDArray[np.integer], targets: npt.NDArray[np.integer]) -> Rows:
    counting = targets.astype(np.int64)
    counting[counting == START] = IGNORED
    return Rows(np.ascontiguousarray(inputs, dtype=np.int64), counting)


def _tunes_begun(beginnings: Integers, starts: Integers, counts: Integers | int) -> int:
    """How many tunes begin behind ``starts``, at most ``counts`` characters on: those are no targets."""
    ends = np.searchsorted(beginnings, starts + counts, side="right")
    return int((ends - np.searchsorted(beginnings, starts, side="right")).sum())


def _digest(*arrays: Integers) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]

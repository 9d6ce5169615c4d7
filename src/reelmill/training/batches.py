"""The rows that this process trains on, built ahead of time in a thread, as the trainer asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from reelmill.metrical.reading import Reader
from reelmill.model import dropout_masks
from reelmill.training.schedule import BatchSchedule, Facts
from reelmill.training.settings import ModelSettings

_AHEAD = 2  # steps


@dataclass(frozen=True)
class MicroBatch:
    """Consecutive rows that go forward and backward together.

    ``rows``: their numbers in the global batch. ``inputs`` and ``targets``: int64 [rows, time]. ``masks``:
    those of dropout, float32 [rows, features]. ``places``: int64 [rows, time, 5], for a model with positions.
    """

    rows: range
    inputs: Tensor
    targets: Tensor
    masks: Sequence[Tensor]
    places: Tensor | None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on ``device``; copies from pinned memory don't make the host wait."""
        inputs, targets, *masks = (
            tensor.to(device, non_blocking=True) for tensor in (self.inputs, self.targets, *self.masks)
        )
        places = None if self.places is None else self.places.to(device, non_blocking=True)
        return MicroBatch(self.rows, inputs, targets, masks, places)


@dataclass(frozen=True)
class Batch:
    """One process's part of a step's global batch, and ``facts`` of all of it."""

    facts: Facts
    micro_batches: Sequence[MicroBatch]


class BatchBuilder:
    """Build batches for one process, on the CPU; ``pieces`` are the rows of each of its micro-batches.

    ``reader``: of the model's positions, if it has any. ``pinned``: in memory that a GPU reads without the
    host's help.
    """

    def __init__(
        self,
        schedule: BatchSchedule,
        model: ModelSettings,
        seed: int,
        pieces: Sequence[range],
        reader: Reader | None,
        pinned: bool = False,
    ) -> None:
        self.schedule, self.model, self.seed = schedule, model, seed
        self.pieces, self.reader, self.pinned = pieces, reader, pinned

    def batch(self, step: int) -> Batch:
        """Build the batch of the update that follows ``step`` updates."""
        return Batch(self.schedule.facts(step), [self._micro_batch(step, rows) for rows in self.pieces])

    def ahead(self, step: int) -> Generator[Batch, None, None]:
        """Yield the batches from ``step`` on; while one is trained on, the next ones are built."""
        with ThreadPoolExecutor(1, "batches") as pool:
            built = deque(pool.submit(self.batch, step + number) for number in range(_AHEAD))
            for later in count(step + _AHEAD):
                yield built.popleft().result()
                built.append(pool.submit(self.batch, later))

    def _micro_batch(self, step: int, rows: range) -> MicroBatch:
        built = self.schedule.rows(step, rows)
        arrays = [built.inputs, built.targets, *dropout_masks(self.model, self.seed, step, rows)]
        inputs, targets, *masks = (self._ready(torch.from_numpy(array)) for array in arrays)
        places = None
        if self.reader is not None:
            places = self._ready(self.reader.read(inputs, self.reader.begin(len(rows))))
        return MicroBatch(rows, inputs, targets, masks, places)

    def _ready(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.pinned else tensor

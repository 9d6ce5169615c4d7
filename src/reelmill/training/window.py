"""The means that stand in a line of metrics: the loss and the rate since the line before.

The loss is summed on the device and read only when a line is written, so no step waits for it. It goes on
over a restart; the rate is of the time that this process has spent on steps.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor


class Window:
    """Sums since the last line; ``nats`` and ``characters`` are those of a checkpoint."""

    def __init__(self, nats: float, characters: int, device: torch.device) -> None:
        self._nats = torch.tensor(nats, dtype=torch.float64, device=device)
        self.characters = characters
        self._characters_before = characters  # trained on before this process took the time
        self._since = time.perf_counter()

    @property
    def nats(self) -> float:
        """Sum of the losses; reading it waits for the device."""
        return float(self._nats.item())

    def add(self, loss: Tensor, characters: int) -> None:
        """Take in a step whose mean loss over its ``characters`` is ``loss`` (nats, no dimensions)."""
        self._nats += loss.double() * characters
        self.characters += characters

    def close(self) -> dict[str, float]:
        """The means, and begin a new window."""
        now = time.perf_counter()
        loss = self.nats / max(1, self.characters)
        rate = (self.characters - self._characters_before) / max(1e-9, now - self._since)
        self._nats.zero_()
        self.characters = self._characters_before = 0
        self._since = now
        return {"loss": loss, "bits_per_char": loss / math.log(2), "chars_per_second": round(rate, 1)}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in the block is none of training."""
        before = time.perf_counter()
        yield
        self._since += time.perf_counter() - before

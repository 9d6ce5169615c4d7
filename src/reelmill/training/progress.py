"""What a run knows besides its tensors; in a checkpoint this is state.json."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from reelmill.layout import is_finished
from reelmill.runs import Checkpoint
from reelmill.training.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingResult:
    """How far a run has come. ``stopped_by``: a signal's name, "deadline", or "" if the run is finished."""

    step: int
    finished: bool
    stopped_by: str = ""
    best_step: int | None = None
    best_bits_per_char: float | None = None


@dataclass
class Progress:
    """Counters, the best evaluation so far, and hashes of what the run must go on with."""

    step: int = 0  # updates made
    logged: int = 0  # the last step whose evaluation and metrics are done
    window_loss: float = 0.0  # nats since the last line of metrics
    window_characters: int = 0
    best_step: int | None = None
    best_bits_per_char: float | None = None
    evaluations_without_better: int = 0
    finished: bool = False
    stopped_early: bool = False
    vocabulary_sha256: str = ""
    data_sha256: str = ""
    test_sha256: str = ""
    world_size: int = 1

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Progress:
        """As ``checkpoint`` has it."""
        names = cls.__dataclass_fields__
        return cls(**{name: value for name, value in checkpoint.state.items() if name in names})

    def take_evaluation(self, bits: float, patience: int) -> None:
        """Note an evaluation of the current step; stop early after ``patience`` without a better one."""
        if self.best_bits_per_char is None or bits < self.best_bits_per_char:
            self.best_step, self.best_bits_per_char = self.step, bits
            self.evaluations_without_better = 0
        else:
            self.evaluations_without_better += 1
        self.stopped_early = bool(patience) and self.evaluations_without_better >= patience

    def is_end(self, settings: TrainingSettings) -> bool:
        """Whether ``settings`` ask for nothing more."""
        return is_finished(asdict(self), self.step, settings.steps)

    def result(self, stopped_by: str = "") -> TrainingResult:
        """What ``train`` returns."""
        return TrainingResult(self.step, self.finished, stopped_by, self.best_step, self.best_bits_per_char)


class Window:
    """The loss and the rate since the last line of metrics.

    Each process adds up its own losses on the device, in float64, where sums of float32 losses are exact:
    they are the same at any number of processes. Nobody waits for them before ``nats`` is called.
    """

    def __init__(self, nats: float, characters: int, device: torch.device) -> None:
        """Go on from a checkpoint's ``nats``, which one process takes, and ``characters``."""
        self._nats = torch.tensor(nats, dtype=torch.float64, device=device)
        self.characters = characters
        self._characters_before = characters  # trained on before this process took the time
        self._since = time.perf_counter()

    def add(self, nats: Tensor) -> None:
        """Take in the sum of a micro-batch's losses (no dimensions)."""
        self._nats += nats.detach()

    def nats(self) -> float:
        """Sum of all processes' losses; waits for the device, and all must call it at the same place."""
        total = self._nats.clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return float(total.item())

    def close(self, nats: float) -> dict[str, float]:
        """Return the means, ``nats`` being what ``nats()`` gave, and begin a new window."""
        now = time.perf_counter()
        loss = nats / max(1, self.characters)
        rate = (self.characters - self._characters_before) / max(1e-9, now - self._since)
        self._nats.zero_()
        self.characters = self._characters_before = 0
        self._since = now
        return {"loss": loss, "bits_per_char": loss / math.log(2), "chars_per_second": round(rate, 1)}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time spent in the block out of the rate."""
        before = time.perf_counter()
        yield
        self._since += time.perf_counter() - before

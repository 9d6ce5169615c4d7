"""What a run knows besides its tensors; in a checkpoint this is state.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from reelmill.layout import is_finished
from reelmill.training.checkpoints import Checkpoint
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

"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from reelmill.training.settings import TrainingSettings


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

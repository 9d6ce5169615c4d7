"""The learning rate is a function of the step."""

import pytest

from reelmill.training.schedule import learning_rate
from reelmill.training.settings import TrainingSettings


def test_constant_after_the_warm_up():
    settings = TrainingSettings(learning_rate=0.1, warmup_steps=4, steps=10)
    rates = [learning_rate(settings, step) for step in range(10)]
    assert rates == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 7)


def test_cosine_falls_to_nothing():
    settings = TrainingSettings(learning_rate=0.1, warmup_steps=10, steps=110, schedule="cosine")
    rates = [learning_rate(settings, step) for step in range(111)]
    assert rates[10] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[110] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)

"""Signals and the deadline ask for a stop, and nothing more."""

import os
import signal
import time

import pytest

from reelmill.training.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_noted(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.reason
        os.kill(os.getpid(), number)
        assert stop.reason == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait():
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_deadline():
    with StopRequest(time.time() + 1000) as stop:
        assert not stop.reason
    with StopRequest(time.time() - 1) as stop:
        assert stop.reason == "deadline"

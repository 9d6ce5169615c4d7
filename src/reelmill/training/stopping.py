"""A wish to stop: a signal or the walltime deadline.

The handlers only take a note. The loop asks between steps, agrees with the other processes, writes a
checkpoint and returns; so a signal never breaks into the middle of a step. Set-up has no steps: it leaves
nothing half done wherever it ends, and is broken off (``breaking_in``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class Stopped(BaseException):
    """Work was broken off because a stop was asked for."""


class StopRequest:
    """Context manager: inside, SIGTERM, SIGUSR1, SIGUSR2 and the first SIGINT ask for a stop.

    ``deadline`` is in seconds since 1970 (``time.time()``); leave room before it for a checkpoint. Outside
    the main thread signals are not touched and only the deadline counts.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._asked = ""
        self._breaks_in = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def reason(self) -> str:
        """Why to stop: a signal's name or "deadline"; empty while there is no reason."""
        if self._asked:
            return self._asked
        return "deadline" if self.deadline is not None and time.time() >= self.deadline else ""

    def ask(self, reason: str) -> None:
        """Ask for a stop from another thread."""
        self._asked = self._asked or reason
        if self._breaks_in and self._before:
            main = threading.main_thread().ident
            assert main is not None  # it runs
            signal.pthread_kill(main, signal.SIGUSR1)  # ends whatever it waits for

    @contextlib.contextmanager
    def breaking_in(self) -> Iterator[None]:
        """Inside, a signal or ``ask`` raises Stopped in the main thread, whatever that is doing."""
        if self.reason:
            raise Stopped
        self._breaks_in = True
        try:
            yield
        finally:
            self._breaks_in = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _end_as_usual(number)  # a process that works for this one
            return
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
        self._asked = self._asked or signal.Signals(number).name
        if self._breaks_in:
            self._breaks_in = False
            raise Stopped


def _end_as_usual(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

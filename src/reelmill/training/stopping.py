"""A wish to stop: a signal or the walltime deadline.

The handlers only take a note. The loop asks between steps, agrees with the other processes, writes a
checkpoint and returns; so a signal never breaks into the middle of anything.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


class StopRequest:
    """Context manager: inside, SIGTERM, SIGUSR1, SIGUSR2 and the first SIGINT ask for a stop.

    ``deadline`` is in seconds since 1970 (``time.time()``); leave room before it for a checkpoint. Outside
    the main thread signals are not touched and only the deadline counts.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self._signal = ""
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
        if self._signal:
            return self._signal
        return "deadline" if self.deadline is not None and time.time() >= self.deadline else ""

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait
        self._signal = signal.Signals(number).name

"""Processes of this package that serve another one, which they know as their standard input."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import reelmill

_SOURCES = str(Path(reelmill.__file__).parents[1])
NOTICES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def spawn(module: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """``python -m module`` on one thread, and this end of the socket it has as its standard input."""
    ours, theirs = socket.socketpair()
    with theirs:
        paths = [_SOURCES, os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            # -P: whatever lies in the working directory is not imported; this package is, wherever it lies.
            [sys.executable, "-P", "-m", module],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths).rstrip(os.pathsep),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
    return process, ours


def ending(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, for example ``SIGKILL`` or ``exit code 1``; waits for it."""
    code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def connection() -> socket.socket:
    """In such a process: its end of the socket, which no program that it starts will meet."""
    for notice in NOTICES:
        signal.signal(notice, signal.SIG_IGN)  # a notice to stop is the other process's to act on
    ours = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints is not for standard output
    return ours

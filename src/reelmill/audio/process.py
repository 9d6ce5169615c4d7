"""One external program, run once under limits: how it ended and what it said.

Files go in and out as anonymous files at fixed descriptors (``/dev/fd/3`` …): no name of the environment can
leak into what the program writes, nothing is left behind whatever is killed, and no disk can be full. The
limits are set from outside once the program runs (``prlimit``), because code between fork and exec is slow
and unsafe beside threads. Spawning costs about 0.4 ms however large this process is.

A notice to stop that Slurm or a terminal sends to the whole job is not meant for the programs: they hold it
back and finish, within their limits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from reelmill.anonymous import anonymous_file, contents
from reelmill.errors import IncompleteError

FIRST_FILE = 3  # descriptor of the first file given to the program
_NOTICES = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
# Python ignores these two; a program must die of them, or it goes on with a truncated file.
_IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]


class ToolError(IncompleteError):
    """An external program failed for a reason of the machine (time-out, killed), not of its input."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run of a program may take. Memory is address space; file size goes for each file it writes."""

    seconds: float  # of the wall clock
    cpu_seconds: int
    memory: int  # bytes
    file_size: int  # bytes


@dataclass(frozen=True)
class Ending:
    """How a program ended: ``code`` is its exit code, or minus the signal that ended it."""

    code: int
    timed_out: bool
    output: bytes  # standard output and error together

    @property
    def by_machine(self) -> bool:
        """Whether the machine ended it: the clock, or a signal that somebody else sent (out of memory, say).

        Everything else (a crash, an exit code, the limit on CPU time or file size) follows from the input.
        """
        return self.timed_out or self.code in (-signal.SIGKILL, *(-notice for notice in _NOTICES))

    @property
    def words(self) -> str:
        """One phrase for a person."""
        if self.timed_out:
            return "took too long"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


def run(command: Sequence[str], limits: Limits, files: Sequence[BinaryIO] = ()) -> Ending:
    """Run ``command`` (an absolute path first) in an empty environment; ``files[i]`` is descriptor 3 + i."""
    with anonymous_file() as output, contextlib.ExitStack() as closing:
        given = [output.fileno()] * 3 + [file.fileno() for file in files]
        # Copies above the range that is filled, so that no duplicate overwrites one still to be placed.
        sources = [_copy_above(descriptor, FIRST_FILE + len(files), closing) for descriptor in given]
        null = _copy_above(os.open(os.devnull, os.O_RDONLY), FIRST_FILE + len(files), closing, close=True)
        sources[0] = null
        pid = _spawn(command, sources)
        code, timed_out = _wait(pid, limits)
        return Ending(code, timed_out, contents(output))


def _spawn(command: Sequence[str], sources: Sequence[int]) -> int:
    try:
        return os.posix_spawn(
            command[0],
            list(command),
            {"LC_ALL": "C"},
            file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(sources)],
            setpgroup=0,
            setsigmask=_NOTICES,
            setsigdef=_IGNORED_BY_PYTHON,
        )
    except OSError as error:  # no more processes, or no more memory
        raise ToolError(f"{command[0]}: cannot be started ({error.strerror})") from None


def _copy_above(descriptor: int, lowest: int, closing: contextlib.ExitStack, close: bool = False) -> int:
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    closing.callback(os.close, copy)
    if close:
        os.close(descriptor)
    return copy


def _wait(pid: int, limits: Limits) -> tuple[int, bool]:
    try:
        _limit(pid, limits)
        timed_out = not _ends_within(pid, limits.seconds)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if timed_out:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), timed_out


def _limit(pid: int, limits: Limits) -> None:
    if not hasattr(resource, "prlimit"):  # only Linux has it; elsewhere the wall clock is the limit
        return
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        # The soft limit only: a hard one on CPU time kills with SIGKILL, which looks like somebody else.
        with contextlib.suppress(ProcessLookupError):
            hard = resource.prlimit(pid, kind)[1]
            soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, kind, (soft, hard))


def _ends_within(pid: int, seconds: float) -> bool:
    if hasattr(os, "pidfd_open"):
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(descriptor)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.0005)
    return False

"""A ``reelmill`` command in a process of its own that says what it is doing while it does it.

Functions of the package are wrapped here so that they note in shared memory when they begin and end. What is
noted stays as it was when a process is killed, so a phase can be seen both before and after the signal.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_UP, SAMPLING, RENDERING = "start-up", "sampling", "rendering"
COMMITTING, COLLECTING = "committing", "collecting"
PHASES = (START_UP, SAMPLING, RENDERING, COMMITTING, COLLECTING)
FIRST_STEPS = ("create_plan", "keep_model", "produce", "text_fingerprint", "audio_fingerprint")
"""Of start-up, numbered from 1; 0 is before them."""
PROCESSORS = 2
"""That all workers share."""

_STEP = len(PHASES)  # of start-up; of collecting, shards begun
_UNLISTED = _STEP + 1  # whether a tar is in place and its manifest is being written
_NOTES = _STEP + 2
_HANGS = 600.0
_Context = multiprocessing.get_context("forkserver")
_Context.set_forkserver_preload(["reelmill.songs.make.generate"])


class Failure(AssertionError):
    """What must not happen has happened."""


class Command:
    """``reelmill`` with ``arguments``, begun at once, as the first of a process group of its own.

    With ``room`` the disk seems full to it once it has written so many bytes of tars.
    """

    def __init__(self, log: Path, *arguments: object, room: int | None = None) -> None:
        self.arguments, self.log = [str(argument) for argument in arguments], log
        self._notes = _Context.RawArray("i", _NOTES)
        self._notes[PHASES.index(START_UP)] = int(self.name != "collect")
        self._process = _Context.Process(target=_run, args=(self.arguments, log, self._notes, room))
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process.start()
        self._hangs = time.monotonic() + _HANGS

    @property
    def name(self) -> str:
        """Of the command."""
        return self.arguments[0]

    @property
    def running(self) -> bool:
        """Whether it has not ended. Failure if it hangs."""
        if time.monotonic() > self._hangs:
            self.kill_group()
            raise Failure(f"{self} hangs:\n{self.said()}")
        return self._process.exitcode is None

    @property
    def phases(self) -> set[str]:
        """All that it is doing; starting up, it does nothing else."""
        inside = [phase for number, phase in enumerate(PHASES) if self._notes[number] > 0]
        return {START_UP} if START_UP in inside else set(inside)

    @property
    def step(self) -> int:
        """Of start-up, or, while collecting, how many shards have been begun."""
        return self._notes[_STEP]

    @property
    def unlisted(self) -> bool:
        """Whether a tar is in place whose manifest is not."""
        return bool(self._notes[_UNLISTED])

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        _send(os.kill, self._id, number)

    def kill_group(self) -> None:
        """Kill it and its children at once."""
        _send(os.killpg, self._id, signal.SIGKILL)
        self.send(signal.SIGKILL)  # too early for a group

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers, where they are processes of their own."""
        return sorted(process for process in _session(self._id) if _is_worker(process))

    def kill(self, process: int) -> bool:
        """Kill one of its processes; False if that is gone."""
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process) == self._id:
                os.kill(process, signal.SIGKILL)
                return True
        return False

    def wait(self) -> int:
        """Its exit code, once it and all its children have ended; they may not outlive it."""
        while self.running:
            time.sleep(0.005)
        deadline = time.monotonic() + 60
        while left := _session(self._id):
            if time.monotonic() > deadline:
                raise Failure(f"{self}: its children {left} outlive it")
            time.sleep(0.005)
        return int(self._process.exitcode or 0)

    def said(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def __str__(self) -> str:
        return "reelmill " + " ".join(self.arguments)

    @property
    def _id(self) -> int:
        assert self._process.pid is not None  # it has been started
        return self._process.pid


def _send(how: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        how(target, number)


def _session(leader: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.add(int(path.parent.name))
    return found


def _is_worker(process: int) -> bool:
    try:
        return b"worker_process" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


# Inside the process


def _run(arguments: list[str], log: Path, notes: Any, room: int | None) -> None:
    os.setsid()
    os.environ["REELMILL_PROCESSORS"] = str(PROCESSORS)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    logging.captureWarnings(True)

    import torch
    from tqdm import tqdm

    from reelmill import cli

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own would be missed by the resource tracker after a kill
    _note_songs(_Notes(notes))
    if arguments[0] == "collect":
        _note_collecting(_Notes(notes))
    if room is not None:
        _fill_disk(room)
    sys.exit(cli.main(arguments))


class _Notes:
    """Writes what is being done where the campaign reads it."""

    def __init__(self, notes: Any) -> None:
        self.values = notes
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def inside(self, phase: str) -> Iterator[None]:
        """A phase begins and ends, perhaps in several threads at once."""
        self.add(phase, 1)
        try:
            yield
        finally:
            self.add(phase, -1)

    def add(self, phase: str, change: int) -> None:
        with self._lock:
            self.values[PHASES.index(phase)] += change

    def around(self, owner: Any, name: str, phase: str) -> None:
        """Have ``owner.name`` be a phase."""

        def noting(wrapped: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            with self.inside(phase):
                return wrapped(*arguments, **options)

        _wrap(owner, name, noting)

    def at(self, owner: Any, name: str, note: Callable[..., None]) -> None:
        """Call ``note`` with the arguments of each call of ``owner.name`` before it."""

        def noting(wrapped: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            note(*arguments, **options)
            return wrapped(*arguments, **options)

        _wrap(owner, name, noting)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    wrapped = getattr(owner, name)

    @functools.wraps(wrapped)
    def instead(*arguments: Any, **options: Any) -> Any:
        return around(wrapped, *arguments, **options)

    setattr(owner, name, instead)


def _note_songs(notes: _Notes) -> None:
    from reelmill import durable
    from reelmill.sampling.engine import Engine
    from reelmill.songs.make import fingerprint, generate, sounds, worker
    from reelmill.songs.store import manifest, tar

    def step(name: str, *_: Any, **__: Any) -> None:
        notes.values[_STEP] = FIRST_STEPS.index(name) + 1

    for name in FIRST_STEPS:
        owner = fingerprint if name.endswith("fingerprint") else generate
        notes.at(owner, name, functools.partial(step, name))
    started = lambda *_: notes.values.__setitem__(PHASES.index(START_UP), 0)  # noqa: E731
    notes.at(worker.Worker, "_fill", started)
    notes.around(Engine, "step", SAMPLING)

    notes.around(sounds, "record", RENDERING)

    # A commit lasts from the tar's end mark until nothing is left but the tar and its manifest.
    @contextlib.contextmanager
    def committing(wrapped: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
        try:
            with wrapped(*arguments) as begun:
                yield begun
        finally:
            notes.values[PHASES.index(COMMITTING)] = notes.values[_UNLISTED] = 0

    def listed(path: Path, value: Any) -> None:
        notes.values[_UNLISTED] = int(path.parent.name in manifest.KINDS)

    _wrap(worker, "committing", committing)
    notes.at(tar.TarWriter, "close", lambda _: notes.add(COMMITTING, 1))
    notes.at(durable, "write_json", listed)


def _note_collecting(notes: _Notes) -> None:
    from reelmill.songs.results import collect

    def begun(directory: Path, plan: Any, number: int) -> None:
        notes.values[_STEP] = number + 1

    def described(name: str, plan: Any, facts: Any) -> None:
        notes.values[_STEP] = plan.shards + 1

    notes.at(collect, "collect", lambda _: notes.add(COLLECTING, 1))  # until the command ends
    notes.at(collect, "_rows", begun)
    notes.at(collect, "dataset_card", described)


def _fill_disk(room: int) -> None:
    from reelmill.songs.store import tar

    left = [room]

    def write(wrapped: Callable[..., Any], writer: Any, data: bytes) -> None:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        wrapped(writer, data)

    _wrap(tar.TarWriter, "_write", write)

"""A job on this machine, without Slurm: one process a rank, through the same job file, exit codes and bounds.

The ranks are children of this process. A signal to it goes on to all of them; one that dies takes the
others down; what died is started again as long as it makes progress. What was stopped by a signal stays
stopped: nobody will queue it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from reelmill import resources
from reelmill.cluster.node import requeue
from reelmill.cluster.node.task import SIGNALS
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import Request, new_folder, write_job
from reelmill.errors import IncompleteError, RequestError

_GRACE = 10.0
"""Seconds that ranks get to end by themselves once one of them has ended badly."""


def run_here(job_file: Path, settings: ClusterSettings, command: Sequence[str] = ()) -> None:
    """Run the job until it is done. ``command`` starts one rank; default: ``reelmill.cluster.node.task``.

    Raises IncompleteError with the reason if it ends otherwise (stopped by a signal, no progress),
    RequestError if a rank found the request wrong.
    """
    words = [*shlex.split(settings.interpreter), "-m", "reelmill.cluster.node.task", str(job_file)]
    told = {"SLURM_JOB_ID": f"local-{os.getpid()}", "SLURM_JOB_NODELIST": socket.gethostname()}
    with _forwarded_signals() as group:
        for restart in itertools.count():
            told["SLURM_RESTART_COUNT"] = str(restart)
            started = requeue.before(job_file, told)
            if not started.again:
                raise IncompleteError(started.reason)
            ended = _run_ranks(command or words, settings.processes, job_file, group)
            stopped = "stopped as asked; the same command goes on from here" if group.signalled else ""
            status, refused, decision = requeue.after(job_file, told, ended, stopped=stopped)
            if refused:
                raise RequestError(refused)
            if status == 0:
                return
            if not decision.again:
                raise IncompleteError(decision.reason)
            print(f"starting again: {decision.reason}", file=sys.stderr, flush=True)


def run_request(request: Request, settings: ClusterSettings) -> None:
    """Run what ``request`` asks for until it is done; see ``run_here``."""
    run_here(write_job(request, settings, new_folder(request)), settings)


class _Group:
    """The ranks that are running."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.signalled = False

    def send(self, number: int) -> None:
        for rank in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                rank.send_signal(number)


@contextlib.contextmanager
def _forwarded_signals() -> Iterator[_Group]:
    group = _Group()

    def forward(number: int, _frame: object) -> None:
        group.signalled = True
        group.send(signal.SIGTERM if number == signal.SIGINT else number)

    before = {number: signal.signal(number, forward) for number in (*SIGNALS, signal.SIGINT)}
    try:
        yield group
    finally:
        group.send(signal.SIGKILL)
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_ranks(words: Sequence[str], processes: int, job_file: Path, group: _Group) -> int:
    """The exit code of the first rank that failed, those killed for another's fault left out; 0 if none."""
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    environment |= {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "REELMILL_JOB": str(job_file),
    }
    share = str(max(1, (os.cpu_count() or 1) // processes))
    environment.setdefault("OMP_NUM_THREADS", share)
    environment.setdefault("REELMILL_PROCESSORS", share)
    environment.setdefault("REELMILL_MEMORY", str(resources.memory() // processes))
    group.ranks = [
        # A session of its own: Ctrl-C reaches this process alone, which passes it on once.
        subprocess.Popen(
            words,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "REELMILL_SHARE": str(rank)},
            start_new_session=True,
        )
        for rank in range(processes)
    ]
    if group.signalled:
        group.send(signal.SIGTERM)
    failed = 0
    while any(rank.poll() is None for rank in group.ranks):
        failed = next((rank.returncode for rank in group.ranks if rank.poll()), 0)
        if failed:
            _end(group)
        time.sleep(0.1)
    codes = [rank.returncode for rank in group.ranks if rank.returncode]
    failed = failed or (codes[0] if codes else 0)
    return 128 - failed if failed < 0 else failed


def _end(group: _Group) -> None:
    group.send(signal.SIGTERM)
    end = time.monotonic() + _GRACE
    while any(rank.poll() is None for rank in group.ranks) and time.monotonic() < end:
        time.sleep(0.1)
    group.send(signal.SIGKILL)
    for rank in group.ranks:
        rank.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

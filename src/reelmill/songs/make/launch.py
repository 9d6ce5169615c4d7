"""Work on one share of a songs directory until it is done: one worker here, or several as processes.

Workers of one command are parts of its share, over the same leases that tasks on other nodes use. Each is a
process on one processor (``worker_process``); it gets its task on standard input, whose end tells it to give
up, and says on standard output, a line of JSON each, what it has done. One that is lost is started again,
unless two in a row had finished no shard. On GPUs one worker a GPU makes text, and those of the other
processors add sound to what text there is.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reelmill
from reelmill import config as configuration
from reelmill import durable, resources
from reelmill.config import Config
from reelmill.errors import IncompleteError, RequestError
from reelmill.model import TrainedModel
from reelmill.room import size_text
from reelmill.songs.make.progress import Progress
from reelmill.songs.make.scheduler import Scheduler
from reelmill.songs.make.worker import Worker
from reelmill.songs.store.leases import Leases, read_lease
from reelmill.songs.store.manifest import KINDS, Kind, manifest_path
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.totals import Outcome, count_half

_log = logging.getLogger(__name__)

MODULE = "reelmill.songs.make.worker_process"
_WORTH = 256  # songs for which it is worth the seconds to start one more worker
_NEED = 3 << 28  # bytes that a worker takes
_LOSSES = 2  # in a row, without a shard finished in between
_PATIENCE = 10.0  # seconds that workers get to give up what they have in hand
_SILENCE = 1800.0  # seconds after which one that says nothing is taken for stuck
_SOURCES = str(Path(reelmill.__file__).parents[1])


@dataclass(frozen=True, kw_only=True)
class Role:
    """What one worker is for: ``part`` J of N of the share, some halves, and for text perhaps a GPU."""

    halves: tuple[Kind, ...]
    part: tuple[int, int]
    gpu: str = ""  # as CUDA_VISIBLE_DEVICES names it

    @property
    def follows(self) -> bool:
        """Whether it adds sound to what others write, and is started again when there is more of that."""
        return self.halves == ("audio",)


class Made:
    """What workers say they have made."""

    def __init__(self, progress: Progress) -> None:
        self.shards: set[int] = set()
        self.faults: list[str] = []
        self._progress = progress
        self.songs, self.text = progress.songs, progress.text

    def shard(self, number: int) -> None:
        """A shard is finished, or another half of it."""
        self.shards.add(number)

    def fault(self, reason: str) -> None:
        """The machine keeps a shard from being made."""
        self.faults.append(reason)


def produce(
    directory: Path,
    plan: Plan,
    config: Config,
    model: TrainedModel | None,
    *,
    shard: tuple[int, int],
    halves: tuple[Kind, ...],
    progress: bool = True,
) -> Outcome:
    """Make what has no intact manifest in one share. ``model`` may be None if ``halves`` are audio only.

    Before the first song, this machine's fingerprint is compared with the plan's: RequestError if it would
    make other bytes.
    """
    began = time.monotonic()
    share = Scheduler(directory, plan, shard, halves=halves)
    tidy(directory)
    for problem in share.damaged:
        _log.warning("%s; it is made again", problem)
    with Progress(plan, share.songs, len(halves), progress) as bar:
        made = Made(bar)
        if any(share.needs(kind) for kind in halves):
            roles = plan_roles(config, share.in_reach, halves)
            if len(roles) == 1 and not roles[0].gpu:  # a GPU's worker has processes that validate
                name = f"{shard[0]}/{shard[1]}"
                with Leases(directory, name) as leases:
                    Worker(directory, plan, config, model, share, leases, made, share=name).run()
            else:
                task = {
                    "directory": str(directory),
                    "config": configuration.to_dict(config),
                    "share": shard,
                    "workers": len(roles),
                }
                Workers(roles, task, made).run()
    return _outcome(directory, plan, share, shard, made, time.monotonic() - began)


def plan_roles(config: Config, shards: int, halves: tuple[Kind, ...]) -> list[Role]:
    """Who is to make ``shards`` shards: ``songs.workers`` workers, or one a processor where songs are many
    and there is memory for so many; on GPUs one for the text of each, and those workers for sound.
    """
    wanted, gpus = config.songs.workers, _gpus(config) if "text" in halves else []
    if not wanted:
        songs = shards * config.songs.songs_per_shard
        wanted = _fitting(min(resources.processors(), 1 + songs // _WORTH, max(1, shards)))
    count = max(1, min(wanted, shards))
    if not gpus:
        return [Role(halves=halves, part=(part, count)) for part in range(count)]
    roles = [Role(halves=("text",), part=(part, len(gpus)), gpu=gpu) for part, gpu in enumerate(gpus)]
    if "audio" in halves:
        roles += [Role(halves=("audio",), part=(part, count)) for part in range(count)]
    return roles


def _gpus(config: Config) -> list[str]:
    """The GPUs that are this process's to sample on, as CUDA_VISIBLE_DEVICES names them."""
    if config.sampling.device == "cpu":
        return []
    import torch

    from reelmill.sampling.engine import sampling_device

    if sampling_device(config.sampling).type != "cuda":
        return []
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",") if seen else [str(number) for number in range(torch.cuda.device_count())]


def _fitting(workers: int) -> int:
    """So many workers, or as many as there is memory for."""
    free = resources.memory()
    fitting = max(1, min(workers, free // _NEED))
    if fitting < workers:
        _log.warning(
            "%d of %d processors get a worker: %s of memory are free, and one may take %s "
            "(songs.workers sets another number)",
            fitting,
            workers,
            size_text(free),
            size_text(_NEED),
        )
    return fitting


def tidy(directory: Path) -> None:
    """Remove what killed workers left of shards that are finished by now."""
    for place in (*KINDS, "leases"):
        for path in (directory / place).glob(".shard-*"):
            number = path.name[7:13]
            if not (durable.is_temporary(path) and number.isdigit()):
                continue
            lease = read_lease(directory, int(number))
            kinds: tuple[Kind, ...] = KINDS if place == "leases" else (place,)
            made = any(manifest_path(directory, kind, int(number)).exists() for kind in kinds)
            if made and not (lease and lease.live):
                path.unlink(missing_ok=True)


class Workers:
    """Runs a worker for each of ``roles``; ``task`` is what all of them are told (``worker_process``)."""

    def __init__(self, roles: list[Role], task: dict[str, Any], made: Made) -> None:
        self._roles, self._task, self._made = roles, task, made
        self._said: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()
        self._running: set[_Process] = set()
        self._idle: set[Role] = set()  # those that follow and have caught up
        self._losses: Counter[Role] = Counter()
        self._texts = 0  # shards that got their text

    def run(self) -> None:
        """Run until all have ended. What one of them refuses to go on with is raised, once all gave up."""
        try:
            for role in self._roles:
                self._start(role)
            while self._running:
                try:
                    one, message = self._said.get(timeout=_SILENCE / 30)
                except queue.Empty:
                    self._kill_stuck()
                    continue
                self._end(one) if message is None else self._hear(one, message)
        finally:
            self._stop_all()

    def _start(self, role: Role) -> None:
        task = {**self._task, "halves": role.halves, "part": role.part}
        self._running.add(_Process(role, task, self._texts, self._said))

    def _hear(self, one: _Process, message: dict[str, Any]) -> None:
        one.heard = time.monotonic()
        what = message.pop("tell")
        if what in (RequestError.__name__, IncompleteError.__name__):
            one.failed = True
            raise (RequestError if what == RequestError.__name__ else IncompleteError)(message["reason"])
        getattr(self._made, what)(**message)
        if what == "shard":
            one.finished += 1
            if one.role.halves == ("text",):
                self._texts += 1
                self._wake()

    def _end(self, one: _Process) -> None:
        self._running.discard(one)
        code = one.process.wait()
        role = one.role
        if code == 0:
            if role.follows and self._texts > one.texts_before:
                self._start(role)
            elif role.follows:
                self._idle.add(role)
            return
        ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._losses[role] = self._losses[role] + 1 if not one.finished else 1
        if self._losses[role] < _LOSSES:
            _log.warning("a worker process was lost (%s); what it had in hand is made again", ending)
            self._start(role)
        else:
            self._made.fault(f"{_LOSSES} workers were lost before they had finished a shard ({ending})")

    def _wake(self) -> None:
        for role in self._idle:
            self._start(role)
        self._idle.clear()

    def _kill_stuck(self) -> None:
        for one in self._running:
            if time.monotonic() - one.heard > _SILENCE:
                one.process.kill()

    def _stop_all(self) -> None:
        """Have those that are left give back what they have in hand, and end."""
        for one in self._running:
            one.stop()
        deadline = time.monotonic() + _PATIENCE
        for one in self._running:
            try:
                one.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


class _Process:
    """A worker's process. A thread passes on what it says, and None when it has ended."""

    def __init__(self, role: Role, task: dict[str, Any], texts: int, said: queue.SimpleQueue[Any]) -> None:
        self.role, self.texts_before = role, texts
        self.finished = 0  # shards
        self.failed = False
        self.heard = time.monotonic()
        paths = [_SOURCES, os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            # -P: whatever lies in the working directory is not imported; this package is, wherever it lies.
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths).rstrip(os.pathsep),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                **({"CUDA_VISIBLE_DEVICES": role.gpu} if role.gpu else {}),
            },
        )
        self._tell(task)
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def stop(self) -> None:
        """Have it give back what it has in hand."""
        assert self.process.stdin
        self.process.stdin.close()

    def _tell(self, task: dict[str, Any]) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, as will be heard

    def _listen(self, said: queue.SimpleQueue[Any]) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.endswith("\n"):  # a kill may cut the last one
                said.put((self, json.loads(line)))
        said.put((self, None))


def _outcome(
    directory: Path, plan: Plan, share: Scheduler, shard: tuple[int, int], made: Made, seconds: float
) -> Outcome:
    text, audio = count_half(directory, plan, "text"), count_half(directory, plan, "audio")
    finished = min(text.shards, audio.shards) if plan.audio else text.shards
    return Outcome(
        directory=directory,
        planned=plan.songs,
        share=shard,
        complete=not share.unfinished(),
        made=sorted(made.shards),
        remaining=plan.shards - finished,
        songs=text.songs,
        failed=text.failed,
        silent={song: reason for song, reason in audio.failed.items() if song not in text.failed},
        attempts=text.attempts,
        damaged=share.damaged,
        faults=made.faults,
        seconds=round(seconds, 3),
    )

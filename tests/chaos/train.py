"""Kills training at random moments until it has survived enough, and compares with what nothing disturbed.

Two and four processes train on the `irish` corpus with dropout, carried state and exact sums. Each start
is watched until it is in the phase to be hit, then one process is killed (SIGKILL) or asked to stop (SIGTERM,
SIGUSR2) after a random delay; the same directory is then started again, until the run is finished. It must
have the SHA-256 of the uninterrupted run, the same optimizer, and each step's metrics exactly once.

A phase is counted as it was seen both before and after the signal was sent. The processes themselves tell it:
three functions of the trainer are wrapped here so that they note when they begin and end.

Run: python tests/chaos/train.py [--kills N] [--seed S]. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelmill import config, durable

START_UP, STEPS, EVALUATION, WRITING = "start-up", "steps", "evaluation", "checkpoint writing"
PHASES = (START_UP, STEPS, EVALUATION, WRITING)
BETWEEN = "between two phases"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
RECIPE = (
    "corpus.source=irish",
    "model.embedding_size=32",
    "model.hidden_size=192",
    "model.layers=2",
    "model.dropout=0.2",
    "training.batches=stream",
    "training.batch_size=8",
    "training.sequence_length=32",
    "training.exact=true",
    "training.accumulation=4",
    "training.schedule=cosine",
    "training.clip_norm=1.0",
    "training.log_every=1",
    "training.evaluate_every=9",
    "training.evaluation_tunes=40",
    "training.checkpoint_every=4",
    "tracking.comet=false",
)

_START_UP_SECONDS = 1.5
_DELAYS = {
    STEPS: 0.2,
    EVALUATION: 0.03,
    WRITING: 0.005,
}  # seconds at most between seeing a phase and hitting it
_GRACE = 10.0  # seconds that processes get to end by themselves once one has ended badly
_HANGS = 600.0
_STOPPED = 75
_BEFORE, _INSIDE, _AFTER = 0, 1, 2  # of a wrapped function

Aim = tuple[str, signal.Signals]
_Context = multiprocessing.get_context("forkserver")
_Context.set_forkserver_preload(["reelmill.training.loop"])


class Failure(AssertionError):
    """What must not happen has happened."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """A signal that was sent while the processes were in ``phase``."""

    phase: str
    signal: signal.Signals
    victim: int
    processes: int

    def describe(self) -> str:
        """For people."""
        return f"{self.signal.name:<7} to {self.victim} of {self.processes} during {self.phase}"


class Processes:
    """Trainers that train together as torchrun would start them."""

    def __init__(self, world: int, run: Path, recipe: tuple[str, ...]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.world, self.run, self.log = world, run, run.with_suffix(".log")
        self.notes = _Context.RawArray("B", 3 * world)
        self.ranks = [
            _Context.Process(target=_rank, args=(rank, world, port, run, recipe, self.log, self.notes))
            for rank in range(world)
        ]
        for rank in self.ranks:
            rank.start()

    @property
    def running(self) -> bool:
        """Whether none has ended."""
        return all(rank.exitcode is None for rank in self.ranks)

    def phase(self, rank: int) -> str:
        """What the process ``rank`` is doing; the first one also writes checkpoints, beside its steps."""
        loop, evaluation, writing = self.notes[3 * rank : 3 * rank + 3]
        if writing == _INSIDE:
            return WRITING
        if evaluation == _INSIDE:
            return EVALUATION
        return {_BEFORE: START_UP, _INSIDE: STEPS}.get(loop, BETWEEN)

    def wait(self) -> list[int]:
        """Their exit codes. One that ends badly takes the others down, as a cluster's launcher does."""
        hangs = time.monotonic() + _HANGS
        grace: float | None = None
        while any(rank.exitcode is None for rank in self.ranks):
            time.sleep(0.01)
            now = time.monotonic()
            if grace is None and any(rank.exitcode not in (None, 0, _STOPPED) for rank in self.ranks):
                grace = now + _GRACE
            if now > hangs or (grace is not None and now > grace):
                for rank in self.ranks:
                    rank.kill()
            if now > hangs:
                raise Failure(f"the processes hang:\n{self.log.read_text()[-3000:]}")
        return [int(rank.exitcode or 0) for rank in self.ranks]


def chaos(
    place: Path, kills: int, seed: int, worlds: tuple[int, ...], steps: int, say: Callable[[str], None]
) -> list[Kill]:
    """At least ``kills`` kills, spread over signals, phases and numbers of processes.

    Runs go on with each of ``worlds`` by itself, then with all of them in turns. Failure says what differs.
    """
    chosen = random.Random(seed)
    recipe = (*RECIPE, f"training.steps={steps}")
    reference = _undisturbed(place, recipe, worlds, say)
    orders = [(world,) for world in worlds] + ([worlds] if len(worlds) > 1 else [])
    mixed = itertools.cycle((phase, number) for number in SIGNALS for phase in PHASES)
    wanted = list(itertools.islice(mixed, kills))
    done: list[Kill] = []
    for number, order in enumerate(orders):
        aims = wanted[kills * number // len(orders) : kills * (number + 1) // len(orders)]
        chosen.shuffle(aims)
        for again in itertools.count():
            run = place / f"run-{'-'.join(map(str, order))}-{again}"
            starts = _finish(run, recipe, order, aims, done, chosen, say)
            _compare(run, reference, steps)
            say(f"{run.name}: {starts} starts, the same bits as undisturbed")
            if not aims:
                break
    return done


def _finish(
    run: Path,
    recipe: tuple[str, ...],
    order: tuple[int, ...],
    aims: list[Aim],
    done: list[Kill],
    chosen: random.Random,
    say: Callable[[str], None],
) -> int:
    """Start the run until it is finished, taking ``aims`` off as they are met; how many starts it took."""
    for starts in itertools.count():
        processes = Processes(order[starts % len(order)], run, recipe)
        kill = _disturb(processes, aims[-1], chosen) if aims else None
        finished = _checked_end(processes, kill)
        if kill:
            done.append(kill)
            say(f"{len(done):3}  {kill.describe()}")
            if aims[-1] == (kill.phase, kill.signal):
                aims.pop()
        if finished:
            return starts + 1
    raise AssertionError("unreachable")


def _checked_end(processes: Processes, kill: Kill | None) -> bool:
    """Wait for the end; whether the run is finished."""
    codes = processes.wait()
    said = processes.log.read_text()
    if "damaged checkpoint" in said:
        raise Failure(f"{processes.run}: a kill has left a damaged checkpoint:\n{said[-3000:]}")
    handled = kill and kill.signal != signal.SIGKILL and kill.phase not in (START_UP, BETWEEN)
    expected = [{0}] if kill is None else [{0}, {_STOPPED}] if handled else [set(codes)]
    if set(codes) not in expected:
        cause = kill.describe() if kill else "nothing had disturbed it"
        raise Failure(f"{processes.run}: ended with {codes}; {cause}:\n{said[-3000:]}")
    return not any(codes)


def _disturb(processes: Processes, aim: Aim, chosen: random.Random) -> Kill | None:
    """Send the signal in the phase that ``aim`` wants; None if the run ended before there was one."""
    wanted, number = aim
    watched = 0 if wanted == WRITING else chosen.randrange(processes.world)
    victim = chosen.choice([watched, chosen.randrange(processes.world)])
    if wanted == START_UP:
        time.sleep(chosen.random() * _START_UP_SECONDS)
    while processes.running:
        if wanted == START_UP or processes.phase(watched) == wanted:
            time.sleep(chosen.random() * _DELAYS.get(wanted, 0.0))
            before = processes.phase(watched)
            if before == wanted or wanted == START_UP:
                return _sent(number, processes, watched, victim)
        time.sleep(0.0005)
    return None


def _sent(number: signal.Signals, processes: Processes, watched: int, victim: int) -> Kill:
    before = processes.phase(watched)
    process_id = processes.ranks[victim].pid
    assert process_id is not None  # it has been started
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, number)
    after = processes.phase(watched)
    return Kill(before if before == after else BETWEEN, number, victim, processes.world)


# What a run has come to


def _undisturbed(
    place: Path, recipe: tuple[str, ...], worlds: tuple[int, ...], say: Callable[[str], None]
) -> dict[str, Any]:
    """The outcome that every run must have; it is the same with each number of processes."""
    outcomes = []
    for world in worlds:
        run = place / f"undisturbed-{world}"
        began = time.monotonic()
        _checked_end(Processes(world, run, recipe), None)
        outcomes.append(_outcome(run))
        say(f"undisturbed, {world} processes: {time.monotonic() - began:.0f} s, {outcomes[-1]['weights']}")
        if outcomes[-1] != outcomes[0]:
            raise Failure(f"{run}: {world} processes come to something else than {worlds[0]}")
    return outcomes[0]


def _outcome(run: Path) -> dict[str, Any]:
    """Hashes of the weights and of the optimizer, and the metrics without the times in them."""
    from reelmill.durable import sha256
    from reelmill.runs import find_checkpoint, read_tensors
    from reelmill.tracking.metrics import read_metrics

    checkpoint = find_checkpoint(run, "last")
    metrics = [
        {name: value for name, value in record.items() if name not in ("time", "chars_per_second")}
        for record in read_metrics(run / "metrics.jsonl")
    ]
    return {
        "weights": sha256(checkpoint.directory / "model.safetensors"),
        "optimizer": _digest(read_tensors(checkpoint)),
        "metrics": metrics,
    }


def _digest(value: Any) -> str:
    """SHA-256 of nested dicts and lists of tensors; the file itself holds names that may differ."""
    import torch

    if isinstance(value, torch.Tensor):
        content = value.numpy().tobytes()
    elif isinstance(value, dict):
        content = "".join(f"{key}:{_digest(item)}" for key, item in value.items()).encode()
    elif isinstance(value, (list, tuple)):
        content = "".join(map(_digest, value)).encode()
    else:
        content = repr(value).encode()
    return hashlib.sha256(content).hexdigest()


def _compare(run: Path, reference: dict[str, Any], last: int) -> None:
    outcome = _outcome(run)
    steps = [record["step"] for record in outcome["metrics"]]
    if steps != list(range(1, last + 1)):
        raise Failure(f"{run}/metrics.jsonl: its steps are not 1 to {last}, once each: {steps}")
    for name, value in reference.items():
        if outcome[name] != value:
            raise Failure(f"{run}: its {name} differ from those of the undisturbed run")
    left = [path for path in run.rglob("*") if durable.is_temporary(path)]
    if left:
        raise Failure(f"{run}: kills have left {left}")


# Inside the processes


def _rank(
    rank: int, world: int, port: int, run: Path, recipe: tuple[str, ...], log: Path, notes: Any
) -> None:
    """One of the processes: train, and note what is being done."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    logging.basicConfig(level=logging.WARNING)

    import torch

    from reelmill.training import checkpoints, loop

    torch.set_num_threads(1)
    _note(loop.Trainer, "run_to_end", notes, 3 * rank)
    _note(loop.Trainer, "evaluate", notes, 3 * rank + 1)
    _note(checkpoints, "write_checkpoint", notes, 3 * rank + 2)
    result = loop.train(config.load(None, list(recipe)), run)
    sys.exit(0 if result.finished else _STOPPED)


def _note(owner: Any, name: str, notes: Any, place: int) -> None:
    """Have ``owner.name`` note in ``notes[place]`` when it is being run."""
    wrapped = getattr(owner, name)

    @functools.wraps(wrapped)
    def noting(*arguments: Any, **options: Any) -> Any:
        notes[place] = _INSIDE
        try:
            return wrapped(*arguments, **options)
        finally:
            notes[place] = _AFTER

    setattr(owner, name, noting)


def table(kills: list[Kill]) -> str:
    """How many kills each phase met with each signal."""
    counts = Counter((kill.phase, kill.signal) for kill in kills)
    phases = [*PHASES, *([BETWEEN] if any(kill.phase == BETWEEN for kill in kills) else [])]
    lines = [" " * 20 + "".join(f"{number.name:>9}" for number in SIGNALS) + "    total"]
    for phase in phases:
        row = [counts[phase, number] for number in SIGNALS]
        lines.append(f"{phase:<20}" + "".join(f"{count:9}" for count in [*row, sum(row)]))
    return "\n".join([*lines, f"{'all':<20}" + " " * 27 + f"{len(kills):9}"])


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=36, help="at least so many, spread over all phases")
    parser.add_argument("--steps", type=int, default=160, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the processes hit")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-train-") as place:
        try:
            kills = chaos(Path(place), options.kills, options.seed, (2, 4), options.steps, _say)
        except Failure as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            return 1
    print(f"\n{table(kills)}\nall runs as if undisturbed; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

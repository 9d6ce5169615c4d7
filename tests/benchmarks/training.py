"""A training step: our loop beside the same step written plainly, alone and in two processes with DDP.

Both sides train the model of ``configs/demo.yaml`` (128 → 512) on `irish` with batches of 32 windows of 200
characters, one thread a process, in turns, each in processes of its own; ratios are medians over neighbouring
turns, so that another load on the machine counts for both. "Plain" is the lab's loop: ``nn.LSTM``, random
windows cut with NumPy, fused Adam, nothing logged or saved; in two processes its model is wrapped in
``DistributedDataParallel``. Run: python tests/benchmarks/training.py

What makes the difference, and what was tried:
- Freed memory that is kept (``heap``) saves 65,000 page faults a step: the plain loop gives what an LSTM
  remembers of a batch back to the system at each, and asks for it again page by page.
- The next batch is built in a thread; a wish to stop travels in an all-reduce of four bytes that nobody waits
  for before the next step.
- One bucket: there is nothing to overlap, as an LSTM layer's weights get their gradients at the end of its
  backward pass, all at once.

Micro-batches cost next to nothing at hidden 512 and most of a step at hidden 1024: products of 8 rows read 16
MB of weights at every character, from memory instead of the cache. Exact sums need micro-batches, so that is
their price, too, beside the conversions.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
import torch.distributed as dist
from plain import EMBEDDING, HIDDEN, LENGTH, ROWS, PlainModel, plain_loop
from table import Row, at_most, row, table
from torch.nn.parallel import DistributedDataParallel

from reelmill import config
from reelmill.config import Config, to_yaml
from reelmill.corpus import named
from reelmill.model import weights_of
from reelmill.training.checkpoints import copied
from reelmill.training.data import open_data, prepare_data
from reelmill.training.loop import Trainer
from reelmill.training.processes import joined_processes, on_main_process
from reelmill.training.run_directory import opened_run
from reelmill.training.stopping import StopRequest

RECIPE = (
    "corpus.source=irish",
    f"model.embedding_size={EMBEDDING}",
    f"model.hidden_size={HIDDEN}",
    f"training.batch_size={ROWS}",
    f"training.sequence_length={LENGTH}",
    "training.evaluate_every=0",
    "training.checkpoint_every=1000000",
    "training.steps=1000000",
    "tracking.comet=false",
)
TURNS = 30
Begin = Callable[..., Callable[[], object]]
"""Sets a side up in its process, and returns what makes a step."""


@contextlib.contextmanager
def our_trainer(settings: Config, run: Path) -> Iterator[Trainer]:
    """What ``train`` trains with, before its first step."""
    with (
        StopRequest() as stop,
        joined_processes(settings.training) as accelerator,
        contextlib.ExitStack() as held,
    ):
        if accelerator.is_main_process:
            held.enter_context(opened_run(settings, run))
        directories = on_main_process(accelerator, lambda: prepare_data(settings, run, None))
        trainer = Trainer(settings, run, accelerator, stop, open_data(run, directories), None)
        trainer.settle_buckets()
        yield trainer
        if trainer.log is not None:
            trainer.log.close(finished=False)


def turns_of(trainer: Trainer, held: contextlib.ExitStack) -> Callable[[], object]:
    """What the loop does for a step: the update, its log, the vote."""
    batches = held.enter_context(contextlib.closing(trainer.builder.ahead(0)))

    def turn() -> None:
        trainer.update(next(batches))
        trainer.log_and_evaluate()
        trainer.vote(False)

    held.callback(trainer.vote.close)
    return turn


class Turns:
    """Times of two or more sides that take turns."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def take(self, side: str, work: Callable[[], object]) -> None:
        """Time ``work`` for ``side``."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.cpu.setdefault(side, []).append(time.process_time() - cpu)
        self.wall.setdefault(side, []).append(time.perf_counter() - wall)

    def rows(self, what: str, side: str, other: str, limit: float | None) -> list[Row]:
        """A row of wall time and a row of CPU time a step."""
        return [
            _compared(f"{what}, {kind} time", times[side], times[other], other, limit)
            for kind, times in (("wall", self.wall), ("CPU", self.cpu))
        ]


def _compared(name: str, ours: list[float], theirs: list[float], other: str, limit: float | None) -> Row:
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
    judged = {"ratio": statistics.median(ratios)} if limit is None else at_most(limit, ratios)
    return row(name, 1000 * statistics.median(ours), "ms", other, **judged)


class Side:
    """One of two that are compared, in processes of its own, so that neither settles how the other is run."""

    def __init__(
        self, begin: Callable[..., Callable[[], object]], *arguments: object, ranks: int = 1
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._ends, self._processes = [], []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            environment = {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if ranks > 1 else {}
            self._ends.append(ours)
            self._processes.append(
                context.Process(target=_work, args=(theirs, environment, begin, *arguments))
            )
            self._processes[-1].start()

    def turn(self) -> tuple[float, float]:
        """Wall and CPU seconds of a step; the CPU seconds of all ranks."""
        for end in self._ends:
            end.send(True)
        spent = [end.recv() for end in self._ends]
        return max(wall for wall, _ in spent), sum(cpu for _, cpu in spent)

    def close(self) -> None:
        for end in self._ends:
            end.send(False)
        for process in self._processes:
            process.join()


def _work(end: Connection, environment: dict[str, str], begin: Begin, *arguments: object) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with contextlib.ExitStack() as held:
        step = begin(held, *arguments)
        while end.recv():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if environment:
                dist.barrier()
            end.send((time.perf_counter() - wall, time.process_time() - cpu))


def _ours(held: contextlib.ExitStack, place: Path, *overrides: str) -> Callable[[], object]:
    settings = config.load(None, [*RECIPE, *overrides])
    return turns_of(held.enter_context(our_trainer(settings, place)), held)


def _plain(held: contextlib.ExitStack, rows: int) -> Callable[[], object]:
    text = next(named.get("irish").glob("*.abc")).read_text()
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    model: torch.nn.Module = PlainModel(len(numbers))
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
        held.callback(dist.destroy_process_group)
        model = DistributedDataParallel(model)
    return plain_loop(model, np.array([numbers[character] for character in text]), rows)


def compared(what: str, ours: Side, other: str, theirs: Side, limit: float | None) -> list[Row]:
    """Rows of two sides that take turns; the first two steps, which set things up, do not count."""
    turns, sides = Turns(), {"ours": ours, other: theirs}
    for number in range(TURNS + 2):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            wall, cpu = sides[name].turn()
            if number > 1:
                turns.wall.setdefault(name, []).append(wall)
                turns.cpu.setdefault(name, []).append(cpu)
    for side in sides.values():
        side.close()
    return turns.rows(what, "ours", other, limit)


def step_alone(place: Path) -> list[Row]:
    """Our loop against a plain one, and what micro-batches and exact sums cost."""
    yielded = compared(
        "step in one process", Side(_ours, place / "alone"), "a plain PyTorch loop", Side(_plain, ROWS), 1.02
    )
    for hidden in (HIDDEN, 2 * HIDDEN):
        yielded += in_pieces(place, hidden)
    return yielded


def in_pieces(place: Path, hidden: int) -> list[Row]:
    """What cutting a batch into four micro-batches costs in one process, and adding them up exactly."""
    turns = Turns()
    kinds = {
        "whole": (),
        "accumulation=4": ("training.accumulation=4",),
        "exact": ("training.accumulation=4", "training.exact=true"),
    }
    with contextlib.ExitStack() as held:
        sides = {}
        for name, overrides in kinds.items():
            settings = config.load(None, [*RECIPE, f"model.hidden_size={hidden}", *overrides])
            trainer = held.enter_context(our_trainer(settings, place / f"{hidden}-{name}"))
            sides[name] = turns_of(trainer, held)
        for number in range(7):
            for side, turn in sides.items():
                turns.take(side, turn) if number else turn()
    return [
        *turns.rows(f"step in 4 micro-batches, hidden {hidden}", "accumulation=4", "whole", None),
        *turns.rows(f"exact step in 4 micro-batches, hidden {hidden}", "exact", "accumulation=4", None),
    ]


def checkpoint_pause(place: Path) -> list[Row]:
    """How long the loop waits for a checkpoint."""
    turns = Turns()
    with our_trainer(config.load(None, list(RECIPE)), place / "checkpoints") as ours:
        for step in range(8):
            ours.update(ours.builder.batch(step))
            turns.take("pause", ours.save)
            turns.take("writing", ours.writer.wait)
            tensors = [weights_of(ours.network), ours.optimizer.state_dict()]
            turns.take("copying", lambda tensors=tensors: copied(tensors))
    pause, copying, writing = (turns.wall[side][1:] for side in ("pause", "copying", "writing"))
    whole = [one + two for one, two in zip(pause, writing, strict=True)]
    return [
        _compared("pause for a checkpoint", pause, copying, "copying its tensors", None),
        _compared("pause for a checkpoint", pause, whole, "waiting until it is written", None),
    ]


def step_of_two(place: Path) -> list[Row]:
    """Two processes against a plain DDP script, and exact sums against DDP's own."""
    exact = ("training.exact=true", "training.accumulation=2")
    return [
        *compared(
            "step in two processes",
            Side(_ours, place / "two", ranks=2),
            "plain PyTorch DDP (gloo)",
            Side(_plain, ROWS // 2, ranks=2),
            1.03,
        ),
        *compared(
            "exact step in two processes",
            Side(_ours, place / "exact", *exact, ranks=2),
            "the default",
            Side(_ours, place / "default", ranks=2),
            None,
        ),
    ]


def first_step(place: Path) -> list[Row]:
    """From the start of a command to the end of its first step; the corpus is there already."""
    source = next(named.get("irish").glob("*.abc"))
    recipe = place / "recipe.yaml"
    recipe.write_text(to_yaml(config.load(None, [*RECIPE, "training.log_every=1"])))
    turns = Turns()
    for number in range(4):
        run = place / f"start-{number}"
        turns.take("ours", lambda run=run: _until_first_step(recipe, run))
        turns.take("a plain script", lambda: _output([sys.executable, str(_PLAIN), str(source)]))
    ours, plain = (turns.wall[side][1:] for side in ("ours", "a plain script"))
    return [_compared("from start to the end of the first step", ours, plain, "a plain script", None)]


_PLAIN = Path(__file__).with_name("plain.py")


def _until_first_step(recipe: Path, run: Path) -> None:
    words = [sys.executable, "-m", "reelmill", "train", str(recipe), "--run", str(run)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"{words}: exit code {process.returncode}")
        time.sleep(0.005)
    process.kill()
    process.wait()


def _output(words: list[str]) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=300).stdout


def rows() -> list[Row]:
    """All figures of training."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-training-") as place:
        parts = (step_alone, step_of_two, checkpoint_pause, first_step)
        return [item for part in parts for item in part(Path(place))]


if __name__ == "__main__":
    print(table(rows()))

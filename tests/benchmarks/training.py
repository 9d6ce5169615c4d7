"""A training step: our loop beside the same step written plainly, alone and in two processes.

Both sides train the model of ``configs/demo.yaml`` (128 → 512) on `irish` with batches of 32 windows of 200
characters, one thread a process, in turns, each in processes of its own; ratios are medians over neighbouring
turns, so that another load on the machine counts for both. "Plain" is the lab's loop: ``nn.LSTM``, random
windows cut with NumPy, fused Adam, nothing logged or saved. Run: python tests/benchmarks/training.py

Tried, for the exchange of gradients between two processes (gloo, 5.4 million float32 numbers):
- ``all_to_all_single`` and an all-gather in pairs took 202 ms, gloo's all-reduce 62, sending in pairs alone
  50; so what has to be sent is sent in pairs.
- That was level with DDP (1.004 of its step). Processes of one machine now add up in shared memory, where
  nothing is sent: a copy in, half a sum, a copy out, and two barriers.
- The flag for a stop rides in the gradient on a CPU: an agreement of its own took 0.4 ms and half a
  millisecond of CPU time a step. On a GPU to read it would be to wait at every step;
  there it is agreed apart.
- Buffers that are used again, or one exchange of whole vectors in place of two of halves: for 1.4 million
  numbers nothing beyond the noise of a machine in use (0.4 to 1 ms of 11).
- Freed memory that is kept (``heap``) saves 65,000 page faults a step: the plain loop gives what an LSTM
  remembers of a batch back to the system at each, and asks for it again page by page.
- There is nothing to overlap: an LSTM layer's weights get their gradients at the end of its backward pass,
  all at once.

Accumulation in one process costs next to nothing at hidden 512 and 1.7 times the step at hidden 1024:
products of 8 rows read 16 MB of weights at every character, from memory instead of the cache. One pass over
all rows, with a sum of weight gradients for each micro-batch, would mend it, but not simply: ``nn.LSTM``
adds up its weight gradients over rows and time inside one fused operation (so does cuDNN), so the backward
pass through time would have to be written anew; and below 32 rows a product's bits depend on how many rows
there are, so a process that holds one micro-batch would have to pad it, and lose what was won. With 32
rows in each micro-batch (128 in all) the cost is 1.13 times the step.
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
from reelmill.training.world import joined_world
from table import Row, at_most, row, table
from torch.nn.parallel import DistributedDataParallel

from reelmill import config
from reelmill.config import Config, to_yaml
from reelmill.corpus import named
from reelmill.model import weights_of
from reelmill.training.checkpoints import copied
from reelmill.training.data import open_data, prepare_data
from reelmill.training.loop import Trainer
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
    with StopRequest() as stop, joined_world("no") as world, contextlib.ExitStack() as held:
        if world.is_first:
            held.enter_context(opened_run(settings, run))
        directories = world.on_first(lambda: prepare_data(settings, run, None))
        trainer = Trainer(settings, run, world, stop, open_data(run, directories), None)
        yield trainer
        if trainer.log is not None:
            trainer.log.close(finished=False)


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


def _ours(held: contextlib.ExitStack, place: Path) -> Callable[[], object]:
    return held.enter_context(our_trainer(config.load(None, list(RECIPE)), place)).turn


def _plain(held: contextlib.ExitStack, rows: int) -> Callable[[], object]:
    text = next(named.get("irish").glob("*.abc")).read_text()
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    model: torch.nn.Module = PlainModel(len(numbers))
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
        held.callback(dist.destroy_process_group)
        model = DistributedDataParallel(model)
    return plain_loop(model, np.array([numbers[character] for character in text]), rows)


def compared(what: str, ours: Side, other: str, theirs: Side, limit: float) -> list[Row]:
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
    """Our loop against a plain one, and what accumulation costs."""
    yielded = compared(
        "step in one process", Side(_ours, place / "alone"), "a plain PyTorch loop", Side(_plain, ROWS), 1.02
    )
    for hidden in (HIDDEN, 2 * HIDDEN):
        yielded += accumulation(place, hidden)
    return yielded


def accumulation(place: Path, hidden: int) -> list[Row]:
    """What cutting a batch into four micro-batches costs in one process."""
    turns = Turns()
    with contextlib.ExitStack() as held:
        sides = {}
        for pieces in (1, 4):
            overrides = (f"model.hidden_size={hidden}", f"training.accumulation={pieces}")
            settings = config.load(None, [*RECIPE, *overrides])
            sides[f"accumulation={pieces}"] = held.enter_context(
                our_trainer(settings, place / f"{hidden}-{pieces}")
            )
        for number in range(5):
            for side, trainer in sides.items():
                turns.take(side, trainer.turn) if number else trainer.turn()
    return turns.rows(f"step in 4 micro-batches, hidden {hidden}", "accumulation=4", "accumulation=1", None)


def checkpoint_pause(place: Path) -> list[Row]:
    """How long the loop waits for a checkpoint."""
    turns = Turns()
    with our_trainer(config.load(None, list(RECIPE)), place / "checkpoints") as ours:
        for _ in range(8):
            ours.turn()
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
    """Two processes against DDP."""
    ours, theirs = Side(_ours, place / "two", ranks=2), Side(_plain, ROWS // 2, ranks=2)
    return compared("step in two processes", ours, "DDP (gloo)", theirs, 1.0)


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

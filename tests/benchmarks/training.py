"""A training step: our loop beside the same step written plainly, alone and in two processes.

Both sides train the model of ``configs/demo.yaml`` (128 → 512) on `irish` with batches of 32 windows of 200
characters, one thread a process, in turns; ratios are medians over neighbouring turns, so that another load
on the machine counts for both. "Plain" is the lab's loop: ``nn.LSTM``, random windows cut with NumPy, fused
Adam, nothing logged or saved. Run: python tests/benchmarks/training.py

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
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

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
from reelmill.training.run_directory import opened_run
from reelmill.training.stopping import StopRequest
from reelmill.training.world import joined_world

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


def step_alone(place: Path) -> list[Row]:
    """Our loop against a plain one, and what accumulation costs."""
    turns = Turns()
    with our_trainer(config.load(None, list(RECIPE)), place / "alone") as ours:
        plain = plain_loop(PlainModel(ours.vocabulary.size), ours.plan.tunes.characters, ROWS)
        for number in range(TURNS + 1):
            sides = [("ours", ours.turn), ("a plain PyTorch loop", plain)]
            for side, work in sides[:: 1 if number % 2 else -1]:
                turns.take(side, work) if number else work()
        yielded = turns.rows("step in one process", "ours", "a plain PyTorch loop", 1.02)
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    result = place / "two.json"
    processes = [
        context.Process(target=_one_of_two, args=(rank, port, place / "two", result)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process has failed")
    turns = Turns()
    turns.wall, turns.cpu = json.loads(result.read_text())
    return turns.rows("step in two processes", "ours", "DDP (gloo)", 1.0)


def _one_of_two(rank: int, port: int, run: Path, result: Path) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    turns = Turns()
    with our_trainer(config.load(None, list(RECIPE)), run) as ours:
        model = DistributedDataParallel(PlainModel(ours.vocabulary.size))
        plain = plain_loop(model, ours.plan.tunes.characters, ROWS // 2)
        for number in range(2 * TURNS + 2):  # DDP lays its buckets anew after its first step
            sides = [("ours", ours.turn), ("DDP (gloo)", plain)]
            for side, work in sides[:: 1 if number % 2 else -1]:
                dist.barrier()
                turns.take(side, lambda work=work: (work(), dist.barrier())) if number > 1 else work()
        cpu = {side: torch.tensor(times) for side, times in turns.cpu.items()}
        for times in cpu.values():
            dist.all_reduce(times)
    if rank == 0:
        result.write_text(json.dumps([turns.wall, {side: times.tolist() for side, times in cpu.items()}]))


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

"""What a run has come to, and trainers as processes of their own."""

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from reelmill import config
from reelmill.layout import checkpoint_path
from reelmill.runs import read_tensors, verified
from reelmill.tracking.metrics import read_metrics

POINTER = (
    "training.batches=tunes",
    "training.sequence_length=100",
    "model.pointer=8",
    "model.position=4",
)
TIMINGS = ("time", "chars_per_second")


def assert_same(one, two, step):
    for first, second in zip(trained(one, step), trained(two, step), strict=True):
        assert_equal(first, second)


def assert_equal(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for left, right in zip(first, second, strict=True):
            assert_equal(left, right)
    else:
        assert first == second


def trained(run: Path, step: int):
    """What a run has come to: weights, optimizer and other tensors, metrics without timings."""
    checkpoint = verified(run, step)
    records = [
        {key: value for key, value in record.items() if key not in TIMINGS}
        for record in read_metrics(run / "metrics.jsonl")
    ]
    return load_file(checkpoint.directory / "model.safetensors"), read_tensors(checkpoint), records


def weights_bytes(run: Path, step: int) -> bytes:
    return (checkpoint_path(run, step) / "model.safetensors").read_bytes()


def nothing() -> None:
    """To be done before."""


class Trainers:
    """Real processes that train together as torchrun would start them."""

    def __init__(
        self, world: int, run: Path, overrides: list[str], before: Callable[[], object] = nothing
    ) -> None:
        """``before`` is done first in each process; a function of a test's module."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["reelmill.training.loop"])
        self.run = run
        self.results = [run.with_name(f"{run.name}.{time.monotonic_ns()}.{rank}") for rank in range(world)]
        self.processes = []
        for rank, result in enumerate(self.results):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            self.processes.append(
                context.Process(
                    target=_train, args=(environment if world > 1 else {}, overrides, run, result, before)
                )
            )
        for process in self.processes:
            process.start()

    def wait(self) -> list[dict]:
        """What each returned: fields of TrainingResult, or {"error": …}; {} for one that was killed."""
        for process in self.processes:
            process.join(100)
            if process.is_alive():
                process.kill()
                raise AssertionError("a trainer hangs")
        return [json.loads(path.read_text()) if path.exists() else {} for path in self.results]

    def wait_for_step(self, step: int) -> None:
        path = self.run / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not path.exists() or len(path.read_bytes().splitlines()) < step:
            assert time.monotonic() < deadline, "no step is made"
            time.sleep(0.002)


def _train(
    environment: dict[str, str],
    overrides: list[str],
    run: Path,
    result: Path,
    before: Callable[[], object],
) -> None:
    os.environ.update(environment)
    import dataclasses

    import torch

    from reelmill.training.loop import train

    torch.set_num_threads(1)
    before()
    try:
        outcome = dataclasses.asdict(train(config.load(None, overrides), run))
    except Exception as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    result.write_text(json.dumps(outcome))

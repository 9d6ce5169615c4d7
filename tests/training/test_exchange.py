"""Processes come to the same sum, whichever way their vectors go."""

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from reelmill.training import exchange
from reelmill.training.exchange import ByMessages, Exchange, InSharedMemory
from reelmill.training.gradients import OrderedSum, shares

LENGTH, STEPS = 12 * 100, 5


def vectors(step, pieces):
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(LENGTH, generator=generator) * 10.0**piece for piece in range(pieces)]


def added_up(step, pieces, held):
    total = OrderedSum()
    for piece in held:
        total.add((0, piece), vectors(step, pieces)[piece])
    return total


def take_part(rank, size, pieces, port, result, before):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    before(rank)
    dist.init_process_group("gloo")
    held = shares(pieces, size)
    add = Exchange(held, rank, dist.group.WORLD, torch.device("cpu"))
    sums = []
    for step in range(STEPS):
        summed = add(added_up(step, pieces, held[rank]))
        sums.append(summed.clone())
        summed.mul_(2)  # as clipping does: it must be nobody else's
    torch.save([type(add.way).__name__, sums], result)
    dist.destroy_process_group()


def start(size, pieces, place, before):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reelmill.training.loop"])
    processes = [
        context.Process(target=take_part, args=(rank, size, pieces, port, place / str(rank), before))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def nothing(_rank):
    """As it is."""


def last_on_another_machine(rank):
    if rank:
        exchange._machine = lambda: rank


def last_cannot_see_the_others(rank):
    if rank:
        opened = exchange._opened
        exchange._opened = lambda told, size: opened(told, size) if told[1] == os.getpid() else None


@pytest.mark.parametrize(
    ("before", "way"),
    [
        (nothing, InSharedMemory),
        (last_on_another_machine, ByMessages),
        (last_cannot_see_the_others, ByMessages),
    ],
)
@pytest.mark.parametrize(("size", "pieces"), [(2, 2), (3, 4), (4, 12)])
def test_the_sum_is_that_of_one_process(tmp_path: Path, size, pieces, before, way) -> None:
    for process in start(size, pieces, tmp_path, before):
        process.join(100)
        assert process.exitcode == 0
    for rank in range(size):
        name, sums = torch.load(tmp_path / str(rank), weights_only=True)
        assert name == way.__name__
        for step in range(STEPS):
            assert torch.equal(sums[step], added_up(step, pieces, range(pieces)).total())


def dies_while_the_others_wait(rank):
    if rank:
        add_up = exchange._summed
        exchange._summed = lambda *slices: (os.kill(os.getpid(), signal.SIGKILL), add_up(*slices))


def test_a_process_that_is_lost_ends_the_wait(tmp_path: Path) -> None:
    processes = start(2, 2, tmp_path, dies_while_the_others_wait)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [1, -signal.SIGKILL]

"""The processes that train together: join them, agree with them, and leave.

Accelerate gives the device, the process group and the precision. On GPUs its group speaks NCCL for what lies
on them and gloo for what lies on the CPU, so that agreeing never waits for a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)
from torch import Tensor

from reelmill.errors import IncompleteError, RequestError
from reelmill.model import float32_as_written
from reelmill.training.settings import TrainingSettings
from reelmill.training.stopping import Stopped, StopRequest

T = TypeVar("T")

ELSEWHERE = "another process"  # asked for the stop
TIMEOUT = timedelta(minutes=5)  # a process that gives no sign for so long is lost, and the others end
_BEAT = 0.1  # seconds between two signs of the main process while it works alone
_LEAVE = 20  # seconds that a failed process has for saying so, whatever its communicator waits for


@contextlib.contextmanager
def joined_processes(
    settings: TrainingSettings, trackers: Sequence[str] = (), place: str | None = None
) -> Iterator[Accelerator]:
    """Join the processes that the environment names (RANK, WORLD_SIZE, …), or be alone; leave at the end.

    ``trackers`` and ``place`` are Accelerate's ``log_with`` and project directory. RequestError for what the
    launcher asks and cannot be had. A process that is lost ends the others with IncompleteError.
    """
    with said_once():
        refuse_launch(settings, os.environ)
        device = _device(settings)
    if device == "cuda":
        refuse_too_few_gpus(os.environ, torch.cuda.device_count())
    threads = torch.get_num_threads()
    try:
        with float32_as_written():
            accelerator = _accelerator(settings, device, trackers, place)
            if settings.exact and device == "cpu":
                torch.set_num_threads(1)  # how a product of few rows is added up depends on their number
            with _lost_processes_named(accelerator):
                yield accelerator
                _leave(accelerator)
    finally:
        torch.set_num_threads(threads)
        # Accelerate remembers its precision for good; another run in this process may want another.
        AcceleratorState._reset_state(reset_partial_state=True)


def _leave(accelerator: Accelerator) -> None:
    """Let go of the model, then of the process group.

    DDP, its hook and the group have threads. One that still ends when Python does, and wants Python's lock
    for it, aborts the process, which a cluster takes for a failure.
    """
    accelerator.free_memory()
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


def _accelerator(
    settings: TrainingSettings, device: str, trackers: Sequence[str], place: str | None
) -> Accelerator:
    # Without a fixed workspace cuBLAS may add in another order from run to run (PyTorch's notes on nn.LSTM).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    backend = {} if device == "cpu" else {"backend": "cpu:gloo,cuda:nccl"}
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=settings.precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(place, logging_dir=place),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=TIMEOUT, **backend),
            # One bucket: LSTMs get their gradients all at once, so there is nothing to overlap.
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, bucket_cap_mb=1 << 20),
        ],
    )
    kind = accelerator.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise RequestError(
            f"accelerate launch is configured for {kind.value}; reelmill trains with DistributedDataParallel "
            "(`accelerate launch --multi_gpu`, or torchrun)"
        )
    return accelerator


def _device(settings: TrainingSettings) -> str:
    seen = torch.cuda.is_available()
    if settings.device == "cuda" and not seen:
        raise RequestError(
            "training.device = 'cuda', and torch sees no GPU here; training.device=cpu trains on the CPU"
        )
    device = "cuda" if seen and settings.device != "cpu" else "cpu"
    if device == "cpu" and settings.precision == "fp16":
        raise RequestError("training.precision = 'fp16' needs a GPU; use 'no' on this machine")
    if device == "cpu" and settings.precision == "bf16" and not trains_in_bfloat16():
        raise RequestError(
            "training.precision = 'bf16': this processor cannot train an LSTM in bfloat16 (oneDNN asks for "
            "AVX-512); use training.precision=no, or a GPU"
        )
    return device


def refuse_launch(settings: TrainingSettings, environ: Mapping[str, str]) -> None:
    """Raise RequestError where a launcher's ``environ`` contradicts itself or the settings."""
    size = int(environ.get("WORLD_SIZE") or 1)
    if size > 1 and not environ.get("MASTER_ADDR"):
        raise RequestError(
            f"WORLD_SIZE = {size}, and MASTER_ADDR is not set; torchrun, accelerate launch and jobs.train "
            "set both, and without WORLD_SIZE there is one process"
        )
    if size > settings.batch_size:
        raise RequestError(
            f"training.batch_size = {settings.batch_size} rows are too few for {size} processes; start fewer"
        )
    _refuse_accelerate_launch(settings, environ)


def refuse_too_few_gpus(environ: Mapping[str, str], gpus: int) -> None:
    """Raise RequestError where this node has more processes than ``gpus`` that they see."""
    local, here = int(environ.get("LOCAL_RANK") or 0), int(environ.get("LOCAL_WORLD_SIZE") or 1)
    if max(here, local + 1) > gpus:
        error = RequestError(
            f"{socket.gethostname()}: {max(here, local + 1)} processes and {gpus} GPUs (CUDA_VISIBLE_DEVICES "
            f"{environ.get('CUDA_VISIBLE_DEVICES', 'is not set')}); start one process a GPU, or set "
            "training.device=cpu"
        )
        error.said = local > 0
        raise error


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Have an error in the block, which every process finds, said by one of them."""
    try:
        yield
    except RequestError as error:
        error.said = int(os.environ.get("RANK") or 0) > 0
        raise


def _refuse_accelerate_launch(settings: TrainingSettings, environ: Mapping[str, str]) -> None:
    """Heed what ``accelerate launch`` was told: refuse what the settings say otherwise."""
    precision = environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", settings.precision):
        raise RequestError(
            f"accelerate launch says mixed_precision = {precision}, and training.precision = "
            f"{settings.precision!r}; set training.precision={precision}, or leave it to reelmill"
        )
    accumulation = int(environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS") or 1)
    if accumulation > 1:
        raise RequestError(
            f"accelerate launch says gradient_accumulation_steps = {accumulation}; leave that out, and set "
            "training.accumulation, which counts the micro-batches of all processes together"
        )
    several = {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"} & environ.keys()
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= environ.keys() and not several:
        raise RequestError(
            "accelerate launch was asked for several processes and has started one: on CPUs it starts them "
            "with --multi_gpu (and without --cpu), as torchrun --nproc-per-node does"
        )


@contextlib.contextmanager
def _lost_processes_named(accelerator: Accelerator) -> Iterator[None]:
    """Turn a communicator's errors into IncompleteError, and let no communicator keep a failed process.

    Destroying a process group, or only leaving Python, may wait for operations that nobody will finish.
    """
    try:
        yield
    except BaseException as error:
        if accelerator.num_processes > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LEAVE)
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise IncompleteError(
                f"process {accelerator.process_index} of {accelerator.num_processes} has lost another one "
                f"({str(error).splitlines()[0]}); the same command goes on from the last checkpoint"
            ) from None
        raise


def any_process(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Return whether each flag is true in any process. All must call this at the same place."""
    if accelerator.num_processes == 1:
        return list(flags)
    agreed = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(agreed, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in agreed.tolist()]


class StopVote:
    """Ask at every step whether any process wants to stop, without waiting: the answer is one step old."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._together = accelerator.num_processes > 1
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._vote: dist.Work | None = None

    def __call__(self, wish: bool) -> bool:
        """Give this process's wish; return whether any process had one a step before, the same in all."""
        if not self._together:
            return wish
        agreed = self.close()
        self._flag.fill_(wish)
        self._vote = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, async_op=True)
        return agreed

    def close(self) -> bool:
        """Wait for the vote under way; return what it came to."""
        if self._vote is None:
            return False
        self._vote.wait()
        self._vote = None
        return bool(self._flag.item())


def on_main_process(accelerator: Accelerator, work: Callable[[], T], stop: StopRequest | None = None) -> T:
    """Do ``work`` in the main process; return what it returns in all.

    An error there is raised in all, so that none is left waiting, and marked as said in the others. ``work``
    may take as long as it likes: a thread gives signs meanwhile. A ``stop`` that is asked for in any process
    breaks it off, and raises Stopped in all.
    """
    value: Any = None
    failure: BaseException | None = None
    if accelerator.is_main_process:
        try:
            with _giving_signs(accelerator, stop), stop.breaking_in() if stop else contextlib.nullcontext():
                value = work()
        except (Exception, Stopped) as error:
            # A process that works for this one may have been ended by the same signal.
            failure = Stopped() if stop and stop.reason else error
    else:
        _follow_signs(accelerator, stop)
    if accelerator.num_processes > 1:
        shared = [value, _plain(failure)]
        dist.broadcast_object_list(shared, src=0, device=torch.device("cpu"))
        if not accelerator.is_main_process:
            value, failure = shared
    if failure is not None:
        raise failure
    return value


def _plain(failure: BaseException | None) -> BaseException | None:
    """What another process is to raise: of a kind that it knows, with the same message."""
    if failure is None or isinstance(failure, Stopped):
        return failure
    kinds = (kind for kind in type(failure).__mro__ if kind.__module__ == RequestError.__module__)
    plain = next(kinds, IncompleteError)(str(failure) or f"the main process failed: {failure!r}")
    plain.said = True
    return plain


@contextlib.contextmanager
def _giving_signs(accelerator: Accelerator, stop: StopRequest | None) -> Iterator[None]:
    ended = threading.Event()

    def give_signs() -> None:
        done = False
        while not done:
            done = ended.wait(_BEAT)
            try:
                wanted, _ = any_process(accelerator, bool(stop and stop.reason), done)
            except RuntimeError:  # another process is lost, as what follows the work will find out
                wanted = done = True
            if wanted and stop:
                stop.ask(stop.reason or ELSEWHERE)

    thread = threading.Thread(target=give_signs, name="signs")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow_signs(accelerator: Accelerator, stop: StopRequest | None) -> None:
    done = False
    while not done:
        _, done = any_process(accelerator, bool(stop and stop.reason), False)


def gather_rows(accelerator: Accelerator, mine: Tensor, rows: Sequence[range]) -> Tensor:
    """[layers, all rows, features] of every process's [layers, its rows, features], equal in all."""
    if accelerator.num_processes == 1:
        return mine
    padded = mine.new_zeros(mine.shape[0], max(map(len, rows)), mine.shape[2])
    padded[:, : mine.shape[1]] = mine
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    return torch.cat([part[:, : len(share)] for part, share in zip(parts, rows, strict=True)], dim=1)


def trains_in_bfloat16() -> bool:
    """Find out by doing it whether this processor trains an LSTM in bfloat16."""
    lstm = torch.nn.LSTM(8, 8)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(1, 1, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True

"""The processes that train together, as seen from one of them.

Accelerate gives the device, the process group and the precision. A second process group on the CPU (gloo)
carries what the processes agree upon, so that agreeing never waits for an accelerator.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.training.stopping import Stopped, StopRequest

T = TypeVar("T")

ELSEWHERE = "another process"  # asked for the stop
START_TIMEOUT = timedelta(minutes=10)  # until all processes are there
STEP_TIMEOUT = timedelta(minutes=3)  # a process that gives no sign for so long is lost, and the others end
_BEAT = 0.1  # seconds between two signs of the first process while it works alone

_ERRORS = {kind.__name__: kind for kind in (RequestError, DamagedError, IncompleteError)}


class World:
    """One process among ``size``; ``rank`` 0 is the first, which alone writes files."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.size: int = accelerator.num_processes
        self.device: torch.device = accelerator.device
        self.group: dist.ProcessGroup | None = None
        self._agreeing: dist.ProcessGroup | None = None
        if self.size > 1:
            self.group = dist.new_group(timeout=STEP_TIMEOUT)
            on_cpu = self.device.type == "cpu"
            self._agreeing = self.group if on_cpu else dist.new_group(backend="gloo", timeout=STEP_TIMEOUT)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in any process. All must call this at the same place."""
        return self._any(flag)[0]

    def _any(self, *flags: bool) -> list[bool]:
        if self.size == 1:
            return list(flags)
        agreed = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=self._agreeing)
        return [bool(flag) for flag in agreed.tolist()]

    def on_first(self, work: Callable[[], T], stop: StopRequest | None = None) -> T:
        """What ``work`` returns in the first process (a JSON value), given to all.

        An error there is raised in all, so that none is left waiting. ``work`` may take as long as it likes:
        a thread gives signs meanwhile. A ``stop`` that is asked for in any process breaks it off, and raises
        Stopped in all.
        """
        failure: BaseException | None = None
        outcome: dict[str, Any] = {}
        if self.is_first:
            try:
                with self._giving_signs(stop), stop.breaking_in() if stop else contextlib.nullcontext():
                    outcome["value"] = work()
            except (Exception, Stopped) as error:
                # A process that works for this one may have been ended by the same signal.
                failure = Stopped() if stop and stop.reason else error
                kinds = [kind.__name__ for kind in type(failure).__mro__]
                outcome = {"errors": kinds, "message": str(failure)}
        else:
            self._follow_signs(stop)
        if self.size > 1:
            outcome = self._share(outcome)
        if failure is not None:
            raise failure
        if "errors" in outcome:
            if Stopped.__name__ in outcome["errors"]:
                raise Stopped
            known = (_ERRORS[name] for name in outcome["errors"] if name in _ERRORS)
            message = outcome["message"] or f"the first process failed with {outcome['errors'][0]}"
            raise next(known, IncompleteError)(message)
        return outcome["value"]

    def sum(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Element-wise sum over the processes, on the CPU."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(values.copy())
        dist.all_reduce(tensor, group=self._agreeing)
        return tensor.numpy()

    def gather_rows(self, mine: Tensor, rows: Sequence[range]) -> Tensor:
        """[layers, all rows, features] of every process's [layers, its rows, features], equal in all."""
        if self.size == 1:
            return mine
        most = max(map(len, rows))
        padded = mine.new_zeros(mine.shape[0], most, mine.shape[2])
        padded[:, : mine.shape[1]] = mine
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:, : len(share)] for part, share in zip(parts, rows, strict=True)], dim=1)

    @contextlib.contextmanager
    def _giving_signs(self, stop: StopRequest | None) -> Iterator[None]:
        ended = threading.Event()

        def give_signs() -> None:
            done = False
            while not done:
                done = ended.wait(_BEAT)
                try:
                    wanted, _ = self._any(bool(stop and stop.reason), done)
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

    def _follow_signs(self, stop: StopRequest | None) -> None:
        done = False
        while not done:
            _, done = self._any(bool(stop and stop.reason), False)

    def _share(self, value: Any) -> Any:
        text = json.dumps(value).encode() if self.is_first else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, src=0, group=self._agreeing)
        data = torch.zeros(int(length.item()), dtype=torch.uint8)
        if self.is_first:
            data = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(data, src=0, group=self._agreeing)
        return json.loads(bytes(data.tolist()))


@contextlib.contextmanager
def joined_world(precision: str) -> Iterator[World]:
    """Join the processes that the environment names (RANK, WORLD_SIZE, …), or be alone; leave at the end."""
    on_cpu = not torch.cuda.is_available()
    if on_cpu and precision == "fp16":
        raise RequestError("training.precision = 'fp16' needs a GPU; use 'no' on this machine")
    if on_cpu and precision == "bf16" and not trains_in_bfloat16():
        raise RequestError(
            "training.precision = 'bf16': this processor cannot train an LSTM in bfloat16 (oneDNN asks for "
            "AVX-512); use training.precision=no, or a GPU"
        )
    # Without a fixed workspace cuBLAS may add in another order from run to run (PyTorch's notes on nn.LSTM).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    deterministic = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=START_TIMEOUT)],
    )
    try:
        yield World(accelerator)
    finally:
        torch.backends.cudnn.deterministic = deterministic
        if dist.is_initialized():
            dist.destroy_process_group()
        # Accelerate remembers its precision for good; another run in this process may want another.
        AcceleratorState._reset_state(reset_partial_state=True)


def trains_in_bfloat16() -> bool:
    """Whether this processor does, found out by doing it."""
    lstm = torch.nn.LSTM(8, 8)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(torch.zeros(1, 1, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True

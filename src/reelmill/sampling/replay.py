"""Work that is launched on a CUDA device over and over, and what it leaves there, brought here meanwhile.

A stride of sampling is some thousands of small kernels; started one by one from Python they cost more than
they compute. A CUDA graph, captured once, starts all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from reelmill.errors import IncompleteError

_WARM_UP = 3  # runs before the capture, in which libraries set themselves up


def replayable(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does ``work`` again: ``work`` itself on a CPU, a graph of its kernels on a CUDA device.

    ``work`` has to be static: it reads and writes the same tensors each time, in place, never waits for the
    device, and takes no decision in Python that a later run may take otherwise. It is run a few times here.
    Raises IncompleteError if it cannot be captured.
    """
    if device.type != "cuda":
        return work
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            work()
    graph = torch.cuda.CUDAGraph()
    try:
        # Only this thread's calls can disturb: others use no device.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        raise IncompleteError(
            f"no CUDA graph of a stride of sampling could be captured on {device} "
            f"({torch.cuda.get_device_name(device)}, torch {torch.__version__}): {error}; "
            "sampling.device=cpu samples the same songs in int8"
        ) from None
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph.replay


class Fetching:
    """Brings tensors of a device here while the device goes on with something else."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def begin(self, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        """What waits for the values that ``tensors`` have now, on the CPU; they may change at once."""
        copies = [each.clone() for each in tensors]
        if self._stream is None:
            return lambda: [each.cpu() for each in copies]
        here = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in copies]
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            for target, each in zip(here, copies, strict=True):
                target.copy_(each, non_blocking=True)
                each.record_stream(self._stream)
            arrived = self._stream.record_event()

        def wait() -> list[torch.Tensor]:
            arrived.synchronize()
            return here

        return wait


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``values``, of the CPU, on ``device``, without waiting for it."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)

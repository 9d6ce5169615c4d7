"""Work that is launched on a CUDA device over and over, captured once as a CUDA graph.

A step of sampling is some sixty small kernels a character; started one by one from Python they cost more than
they compute. A graph starts all of them, for many characters, at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

_log = logging.getLogger(__name__)

_WARM_UP = 3  # runs before the capture, in which libraries set themselves up


def replayable(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does ``work`` again: ``work`` itself on a CPU, a graph of its kernels on a CUDA device.

    ``work`` has to be static: it reads and writes the same tensors each time, in place, never waits for the
    device, and takes no decision in Python that a later run may take otherwise. It is run a few times here.
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
        # Only this thread's calls can disturb: workers write and judge in others, which use no device.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        _log.warning("no CUDA graph, sampling starts its kernels one by one and is slower: %s", error)
        return work
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)
    return graph.replay

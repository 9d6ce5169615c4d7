"""An LSTM's state in few levels, for products of small integers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled
from reelmill.sampling.kernels.exponential import ROUNDING

LEVELS = 32
"""On each side of 0."""

_LEVELS, _SHIFT = np.float32(LEVELS), np.float32(ROUNDING + LEVELS)


def levels(x: torch.Tensor) -> torch.Tensor:
    """``x``, float32 of any shape in [-1, 1], in steps of 1 / ``LEVELS`` from -1 on, rounded half to even:
    uint8.
    """
    result = torch.empty(x.shape, dtype=torch.uint8)
    _to_levels(x.contiguous().reshape(-1).numpy(), result.reshape(-1).numpy())
    return result


def signed_levels(x: torch.Tensor) -> torch.Tensor:
    """The same less ``LEVELS``, so that 0 is 0, on any device: int8."""
    return torch.round(x * LEVELS).to(torch.int8)


@compiled
def _to_levels(x: NDArray[np.float32], result: NDArray[np.uint8]) -> None:
    # An addition rounds, and leaves the integer in the last bits: a third of the time of rounding by name.
    for index in range(len(x)):
        shifted = x[index] * _LEVELS + _SHIFT
        result[index] = np.uint8(np.float32(shifted).view(np.int32))

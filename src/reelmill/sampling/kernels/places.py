"""What a model's metrical positions add to the gates, and what stands beside its LSTM's output."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled, inlined
from reelmill.sampling import kernels
from reelmill.sampling.kernels.exponential import exponential, exponential_by_pytorch

_MOST = np.float32(40.0)  # of twice a number whose hyperbolic tangent is asked
_ONE, _TWO = np.float32(1.0), np.float32(2.0)


def add_places(
    gates: torch.Tensor, into: torch.Tensor, beside: torch.Tensor, lines: torch.Tensor
) -> torch.Tensor:
    """Add each row's four ``lines``, int64 [rows, 4], of ``into``, float32 [any, gates], to its ``gates``.

    Returns the hyperbolic tangent of the sum of the same lines of ``beside``, float32 [any, some].
    """
    if not kernels.by_loops(gates.device):
        return add_places_by_pytorch(gates, into, beside, lines)
    shown = torch.empty(len(gates), beside.shape[1])
    given = (gates, into, beside, lines.contiguous(), shown)
    _add_places(*(tensor.numpy() for tensor in given))
    return shown


def add_places_by_pytorch(
    gates: torch.Tensor, into: torch.Tensor, beside: torch.Tensor, lines: torch.Tensor
) -> torch.Tensor:
    """The same bits on any device."""

    def lines_of(table: torch.Tensor) -> torch.Tensor:
        one, two, three, four = (table.index_select(0, each) for each in lines.unbind(1))
        return (one + two) + (three + four)

    gates.add_(lines_of(into))
    return tanh_by_pytorch(lines_of(beside))


@compiled
def _add_places(
    gates: NDArray[np.float32],
    into: NDArray[np.float32],
    beside: NDArray[np.float32],
    lines: NDArray[np.int64],
    shown: NDArray[np.float32],
) -> None:
    for row in range(len(gates)):
        a, b, c, d = lines[row, 0], lines[row, 1], lines[row, 2], lines[row, 3]
        for unit in range(gates.shape[1]):
            gates[row, unit] += (into[a, unit] + into[b, unit]) + (into[c, unit] + into[d, unit])
        for unit in range(beside.shape[1]):
            sum_ = (beside[a, unit] + beside[b, unit]) + (beside[c, unit] + beside[d, unit])
            shown[row, unit] = tanh(sum_)


@inlined
def tanh(x: np.float32) -> np.float32:
    """The hyperbolic tangent by one exponential; what is not a number stays so."""
    twice = x * _TWO
    low = _MOST if twice > _MOST else twice
    decay = exponential(-(-_MOST if low < -_MOST else low))
    return (_ONE - decay) / (_ONE + decay)


def tanh_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    """The same bits, on any device."""
    decay = exponential_by_pytorch(-(x * 2.0).clamp(-float(_MOST), float(_MOST)))
    return (1.0 - decay) / (1.0 + decay)

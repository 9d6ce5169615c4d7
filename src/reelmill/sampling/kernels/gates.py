"""The gates of an LSTM's layer and its new state, in one pass over memory.

PyTorch's functions take ten passes, and twice the time. The state kept is the sampling cell's (see there).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled, inlined
from reelmill.sampling import kernels
from reelmill.sampling.kernels.exponential import exponential, exponential_by_pytorch

# Beyond it a sigmoid is 0 or 1 but for 1e-17, and two decays' product is still a number.
_MOST = np.float32(40.0)
_ONE, _TWO = np.float32(1.0), np.float32(2.0)


def turn(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> None:
    """Update a layer's ``hidden`` and ``cell``, float32 [rows, size], in place.

    The gates are ``product``, float32 [rows, 4 × size], plus each row's line (int64 [rows]) of ``table``,
    float32 [any, 4 × size]: input, forget, candidate and output one after the other. On a CPU all tensors
    are contiguous. Raises ValueError for others, IndexError for a line that is not there.
    """
    if not kernels.by_loops(product.device):
        turn_plainly(product, table, lines, hidden, cell)
        return
    rows, size = hidden.shape
    shapes = {
        "product": (product, (rows, 4 * size)),
        "table": (table, (len(table), 4 * size)),
        "hidden": (hidden, (rows, size)),
        "cell": (cell, (rows, size)),
    }
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(f"{name}: {tensor.dtype} {list(tensor.shape)}; float32 {list(shape)} is needed")
    if lines.shape != (rows,) or lines.dtype != torch.int64:
        raise ValueError(f"{rows} rows with lines {lines.dtype} {list(lines.shape)}")
    lowest, highest = torch.aminmax(lines)
    if lowest < 0 or highest >= len(table):
        raise IndexError(f"lines {int(lowest)} to {int(highest)} of a table of {len(table)}")
    given = (product, table, lines.contiguous(), hidden, cell)
    _turn(*(tensor.numpy() for tensor in given))


def turn_plainly(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> None:
    """The same bits on any device, one operation after the other."""
    opened, kept, candidate, shown = _decay_by_pytorch(product + table.index_select(0, lines)).chunk(4, dim=1)
    cell.copy_(cell / (1.0 + kept) + (1.0 - candidate) / ((1.0 + candidate) * (1.0 + opened)) * 2.0)
    after = _decay_by_pytorch(cell)
    hidden.copy_((1.0 - after) / ((1.0 + after) * (1.0 + shown)))


def turn_by_pytorch(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> None:
    """Nearly the same on any device, by fewer operations, which round as the device does; ``product`` is
    overwritten.
    """
    gates = product.add_(table.index_select(0, lines)).sigmoid_()
    opened, kept, candidate, shown = gates.split(hidden.shape[1], dim=1)
    cell.mul_(kept).addcmul_(opened, candidate.sub_(0.5), value=4.0)
    torch.sigmoid(cell, out=hidden)
    hidden.sub_(0.5).mul_(shown).mul_(2.0)


@compiled
def _turn(
    product: NDArray[np.float32],
    table: NDArray[np.float32],
    lines: NDArray[np.int64],
    hidden: NDArray[np.float32],
    cell: NDArray[np.float32],
) -> None:
    rows, size = hidden.shape
    for row in range(rows):
        gates, added, shown, kept = product[row], table[lines[row]], hidden[row], cell[row]
        for unit in range(size):
            opened = _decay(gates[unit] + added[unit])
            forgotten = _decay(gates[size + unit] + added[size + unit])
            candidate = _decay(gates[2 * size + unit] + added[2 * size + unit])
            hidden_by = _decay(gates[3 * size + unit] + added[3 * size + unit])
            after = kept[unit] / (_ONE + forgotten) + _gated(candidate, opened) * _TWO
            kept[unit] = after
            shown[unit] = _gated(_decay(after), hidden_by)


@inlined
def _decay(x: np.float32) -> np.float32:
    """exp(-x), of which the sigmoid of x is 1 / (1 + exp(-x)); what is not a number stays so."""
    low = _MOST if x > _MOST else x
    return exponential(-(-_MOST if low < -_MOST else low))


@inlined
def _gated(value: np.float32, gate: np.float32) -> np.float32:
    """(2 sigmoid(x) - 1) sigmoid(y), from the decays of x and y: one division for both sigmoids."""
    return (_ONE - value) / ((_ONE + value) * (_ONE + gate))


def _decay_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    return exponential_by_pytorch(-x.clamp(-float(_MOST), float(_MOST)))

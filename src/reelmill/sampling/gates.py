"""The gates of an LSTM's layer and its new state, in one pass over memory.

PyTorch's functions take ten passes, and twice the time. The state kept is the sampling cell's (see there).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from llvmlite import ir

from reelmill.machine_code import (
    FLOATS,
    INDEX,
    INTEGERS,
    LANES,
    ROUNDING,
    Code,
    floats,
    integers,
    number,
)

_MOST = 40.0  # beyond it a sigmoid is 0 or 1 but for 1e-17, and two decays' product is still a number
_TERMS = 8  # of the exponential's series: over half of log 2 the next is less than float32's precision


def turn(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> None:
    """Update a layer's ``hidden`` and ``cell``, float32 [rows, size], in place; the size is a multiple of 8.

    The gates are ``product``, float32 [rows, 4 × size], plus each row's line (int64 [rows]) of ``table``,
    float32 [any, 4 × size]: input, forget, candidate and output one after the other. All tensors are
    contiguous and on the CPU. Raises ValueError for others, IndexError for a line that is not there.
    """
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
    if lines.shape != (rows,) or lines.dtype != torch.int64 or size % LANES:
        raise ValueError(f"{rows} rows of {size} with lines {lines.dtype} {list(lines.shape)}")
    lowest, highest = torch.aminmax(lines)
    if lowest < 0 or highest >= len(table):
        raise IndexError(f"lines {int(lowest)} to {int(highest)} of a table of {len(table)}")
    _function()(product, table, lines.contiguous(), hidden, cell, rows, size)


def turn_by_pytorch(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> None:
    """The same by PyTorch's functions, on any device; ``product`` is overwritten."""
    gates = product.add_(table.index_select(0, lines)).sigmoid_()
    opened, kept, candidate, shown = gates.split(hidden.shape[1], dim=1)
    cell.mul_(kept).addcmul_(opened, candidate.sub_(0.5), value=4.0)
    torch.sigmoid(cell, out=hidden)
    hidden.sub_(0.5).mul_(shown).mul_(2.0)


@functools.cache
def _function() -> Callable[..., None]:
    code = Code(places=5, numbers=2)
    builder, (product, table, lines, hidden, cell, rows, size) = code.builder, code.arguments
    width = builder.mul(size, number(4 * 4))  # bytes of a row's gates
    one = floats(1.0)
    with code.loop(rows, 1) as row:
        line = code.load(code.at(lines, builder.mul(row.at, number(8))), INDEX)
        gates = code.at(product, builder.mul(row.at, width))
        added = code.at(table, builder.mul(line, width))
        state = builder.mul(row.at, builder.mul(size, number(4)))
        with code.loop(size, LANES) as unit:
            opened, kept, candidate, shown = (
                _decay(
                    builder,
                    builder.fadd(*(code.load(code.at(each, place), FLOATS) for each in (gates, added))),
                )
                for gate in range(4)
                for place in [builder.mul(builder.add(unit.at, builder.mul(size, number(gate))), number(4))]
            )
            place = builder.add(state, builder.mul(unit.at, number(4)))
            before = builder.fdiv(code.load(code.at(cell, place), FLOATS), builder.fadd(one, kept))
            new = builder.fmul(_gated(builder, candidate, opened), floats(2.0))
            after = builder.fadd(before, new)
            code.store(after, code.at(cell, place))
            code.store(_gated(builder, _decay(builder, after), shown), code.at(hidden, place))
    return code.finished()


def _decay(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """exp(-x), of which the sigmoid of x is 1 / (1 + exp(-x)); what is not a number stays so."""
    for limit, sign in ((floats(_MOST), "<"), (floats(-_MOST), ">")):
        x = builder.select(builder.fcmp_ordered(sign, limit, x), limit, x)
    return _exponential(builder, builder.fneg(x))


def _gated(builder: ir.IRBuilder, value: ir.Value, gate: ir.Value) -> ir.Value:
    """(2 sigmoid(x) - 1) sigmoid(y), from the decays of x and y: one division for both sigmoids."""
    one = floats(1.0)
    below = builder.fmul(builder.fadd(one, value), builder.fadd(one, gate))
    return builder.fdiv(builder.fsub(one, value), below)


def _exponential(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """exp(x) = 2^n exp(x - n log 2), the latter by its series."""
    magic = floats(ROUNDING)
    shifted = builder.fadd(builder.fmul(x, floats(1 / math.log(2))), magic)
    n = builder.fsub(shifted, magic)
    coarse = 355 / 512  # of log 2, with so few bits that its product with n is exact
    rest = builder.fsub(x, builder.fmul(n, floats(coarse)))
    rest = builder.fsub(rest, builder.fmul(n, floats(math.log(2) - coarse)))
    # Neighbours first, so that the processor has several sums to do at once.
    terms, power = [floats(1 / math.factorial(index)) for index in range(_TERMS)], rest
    while len(terms) > 1:
        terms = [
            builder.fadd(low, builder.fmul(high, power))
            for low, high in zip(terms[::2], terms[1::2], strict=True)
        ]
        power = builder.fmul(power, power)
    bits = builder.shl(builder.add(builder.bitcast(shifted, INTEGERS), integers(127)), integers(23))
    return builder.fmul(terms[0], builder.bitcast(bits, FLOATS))

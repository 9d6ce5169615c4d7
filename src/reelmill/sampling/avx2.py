"""The product of int8's levels with its weights, for processors with AVX2 that have no instruction for it.

AVX2 multiplies 32 pairs of bytes and adds neighbours in one instruction, in 16 bits and saturating. Libraries
widen every such sum to 32 bits at once, which is two instructions more; here ``GROUP`` of them are added up
in 16 bits first, so most of that work falls away (measured on Zen 3: 8.2 ms instead of 12.8 for 256 rows of
1024 by 4096). It is the caller's part to have weights and levels small enough for it (``products``); then
sums are exact, and so are the same on every processor.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import torch
from llvmlite import ir

from reelmill.machine_code import (
    BYTES,
    FLOATS,
    INTEGER,
    INTEGERS,
    LANES,
    WORDS,
    Code,
    number,
    processor_has,
)

GROUP = 8  # sums of two products that are added up in 16 bits
INPUTS = 4 * GROUP  # the inputs are a multiple of it
OUTPUTS = 2 * LANES  # and the outputs of this
ROWS = 4  # the fewest

_FASTER = ("avx512bw", "avx512vnni", "avxvnni")  # have a library that is as fast or faster


@functools.cache
def usable() -> bool:
    """Whether this processor has AVX2 and nothing better."""
    has_better = any(map(processor_has, _FASTER))
    return sys.byteorder == "little" and processor_has("avx2") and not has_better


def multiplier(
    weight: torch.Tensor, scale: torch.Tensor, zero: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from levels, uint8 [rows, inputs], to ``(levels - zero) @ weight.T * scale``, float32
    [rows, outputs].

    ``weight`` is int8 [outputs, inputs], ``scale`` float32 [outputs]. Sums are of integers, and each is
    rounded twice: to float32, and by its scale.
    """
    outputs, inputs = weight.shape
    if inputs % INPUTS or outputs % OUTPUTS:
        raise ValueError(f"weight of {outputs} by {inputs}: multiples of {OUTPUTS} and {INPUTS} are needed")
    tiles = weight.reshape(outputs // OUTPUTS, OUTPUTS, inputs // 4, 4)
    packed = tiles.transpose(1, 2).contiguous()  # a tile's weights in the order in which they are read
    zeros = weight.sum(dim=1, dtype=torch.int32) * zero
    scale = scale.contiguous()
    function = _function()

    def multiply(levels: torch.Tensor) -> torch.Tensor:
        rows = len(levels)
        if levels.dtype != torch.uint8 or levels.shape != (rows, inputs) or rows < ROWS:
            raise ValueError(f"levels {levels.dtype} {list(levels.shape)}: uint8 [{ROWS} or more, {inputs}]")
        result = torch.empty(rows, outputs)
        function(levels.contiguous(), packed, zeros, scale, result, rows, inputs, outputs)
        return result

    return multiply


@functools.cache
def _function() -> Callable[..., None]:
    """The product for all shapes, in tiles of ``ROWS`` by ``OUTPUTS``, which stay in registers."""
    code = Code(places=5, numbers=3)
    builder, (levels, weights, zeros, scales, result, rows, inputs, outputs) = code.builder, code.arguments
    multiply = code.instruction("llvm.x86.avx2.pmadd.ub.sw", WORDS, BYTES, BYTES)
    widen = code.instruction("llvm.x86.avx2.pmadd.wd", INTEGERS, WORDS, WORDS)

    def groups(lines: list[ir.Value], tile: ir.Value, at: ir.Value) -> list[ir.Value]:
        """Sums in 16 bits over the ``INPUTS`` inputs from ``at``: for each row, of each vector of outputs."""
        sums: list[ir.Value] = []
        for quad in range(GROUP):
            here = builder.add(at, number(4 * quad))
            weight = code.at(tile, builder.mul(here, number(OUTPUTS)))
            columns = [code.load(code.at(weight, number(offset)), BYTES) for offset in (0, 4 * LANES)]
            pairs = []
            for line in lines:
                four = builder.bitcast(code.spread(code.load(code.at(line, here), INTEGER)), BYTES)
                pairs += [builder.call(multiply, [four, column]) for column in columns]
            sums = [builder.add(*both) for both in zip(sums, pairs, strict=True)] if quad else pairs
        return sums

    with code.loop(outputs, OUTPUTS) as column:
        tile = code.at(weights, builder.mul(column.at, inputs))
        with code.loop(rows, ROWS) as row:
            first = code.last_whole(row.at, rows, ROWS)
            mine = [builder.add(first, number(offset)) for offset in range(ROWS)]
            lines = [code.at(levels, builder.mul(each, inputs)) for each in mine]
            with code.loop(inputs, INPUTS, carried=2 * ROWS) as along:
                ones = ir.Constant(WORDS, [1] * 2 * LANES)
                wide = [builder.call(widen, [group, ones]) for group in groups(lines, tile, along.at)]
                along.new = [builder.add(*both) for both in zip(along.carried, wide, strict=True)]
            for index, total in enumerate(along.new):
                at = builder.add(column.at, number(index % 2 * LANES))
                four_at = builder.mul(at, number(4))
                exact = builder.sub(total, code.load(code.at(zeros, four_at), INTEGERS))
                scaled = builder.fmul(
                    builder.sitofp(exact, FLOATS), code.load(code.at(scales, four_at), FLOATS)
                )
                place = builder.add(builder.mul(mine[index // 2], outputs), at)
                code.store(scaled, code.at(result, builder.mul(place, number(4))))
    return code.finished()

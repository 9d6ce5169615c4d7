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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled, inlined, processor_has
from reelmill.sampling.kernels.vectors import add_products, add_widened, load, scaled, spread, store, zeros

GROUP = 8  # sums of two products that are added up in 16 bits
INPUTS = 4 * GROUP  # the inputs are a multiple of it
OUTPUTS = 16  # two vectors of sums; the outputs are a multiple of it
ROWS = 4  # the fewest

_LANES = 8  # sums in a vector
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
    # A tile's weights lie in the order in which they are read.
    packed = tiles.transpose(1, 2).reshape(-1).numpy()
    offsets, scales = (weight.sum(dim=1, dtype=torch.int32) * zero).numpy(), scale.contiguous().numpy()

    def multiply(levels: torch.Tensor) -> torch.Tensor:
        rows = len(levels)
        if levels.dtype != torch.uint8 or levels.shape != (rows, inputs) or rows < ROWS:
            raise ValueError(f"levels {levels.dtype} {list(levels.shape)}: uint8 [{ROWS} or more, {inputs}]")
        result = torch.empty(rows, outputs)
        given, taken = levels.reshape(-1).numpy(), result.reshape(-1).numpy()
        _multiply(given, packed, offsets, scales, inputs, taken)
        return result

    return multiply


@compiled
def _multiply(
    levels: NDArray[np.uint8],  # flat, as all are
    packed: NDArray[np.int8],
    offsets: NDArray[np.int32],
    scales: NDArray[np.float32],
    inputs: int,
    result: NDArray[np.float32],
) -> None:
    outputs, rows = len(offsets), len(levels) // inputs
    for column in range(0, outputs, OUTPUTS):
        for row in range(0, rows, ROWS):
            first = min(row, rows - ROWS)  # some of the last may be done twice
            sums = _sums(levels, first * inputs, packed, column * inputs, inputs)
            for index, vector in enumerate(sums):
                at = column + index % 2 * _LANES
                exact = scaled(vector, load(offsets, at), load(scales, at))
                store(result, (first + index // 2) * outputs + at, exact)


@inlined
def _sums(levels: NDArray[np.uint8], line: int, weights: NDArray[np.int8], tile: int, inputs: int) -> Any:
    """The sums of four rows, the first of which begins at ``line``, and the sixteen outputs whose weights
    begin at ``tile``: two vectors a row. All of it stays in registers.
    """
    s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zeros()
    for start in range(0, inputs, INPUTS):
        w00 = w01 = w10 = w11 = w20 = w21 = w30 = w31 = zeros()
        for quad in range(start, start + INPUTS, 4):
            at = line + quad
            left, right = (
                load(weights, tile + quad * OUTPUTS),
                load(weights, tile + quad * OUTPUTS + 4 * _LANES),
            )
            four = spread(levels, at)
            w00, w01 = add_products(w00, four, left), add_products(w01, four, right)
            four = spread(levels, at + inputs)
            w10, w11 = add_products(w10, four, left), add_products(w11, four, right)
            four = spread(levels, at + 2 * inputs)
            w20, w21 = add_products(w20, four, left), add_products(w21, four, right)
            four = spread(levels, at + 3 * inputs)
            w30, w31 = add_products(w30, four, left), add_products(w31, four, right)
        s00, s01 = add_widened(s00, w00), add_widened(s01, w01)
        s10, s11 = add_widened(s10, w10), add_widened(s11, w11)
        s20, s21 = add_widened(s20, w20), add_widened(s21, w21)
        s30, s31 = add_widened(s30, w30), add_widened(s31, w31)
    return s00, s01, s10, s11, s20, s21, s30, s31

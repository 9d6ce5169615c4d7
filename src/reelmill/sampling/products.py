"""Matrix products ``x @ W.T`` in the precision that the sampling settings ask for.

In all three precisions a row of the result is a function of that row of ``x`` alone, bit for bit, as long as
there are at least ``MINIMUM_ROWS`` rows: below that the libraries switch to other kernels, which round
otherwise. The engine pads to it; ``tests/sampling/test_products.py`` holds the libraries to it.

In int8 it is the same function on every processor and by every library, for its sums are of integers. In
float32 and bfloat16 the order of sums, and so their rounding, is the library's and the processor's.

On CUDA the library may choose another kernel for any number of rows, so there every product of floats is of
exactly ``CUDA_ROWS`` rows, as many times as it takes. Products of integers are of all rows at once.
"""

from collections.abc import Callable

import torch

from reelmill.sampling import kernels
from reelmill.sampling.exact import exponent
from reelmill.sampling.kernels import avx2
from reelmill.sampling.kernels.levels import LEVELS, levels, signed_levels

MINIMUM_ROWS = 32
CUDA_ROWS = 1024
_WEIGHT_BITS = 20  # of a weight while its scale is found: a float32 has every sum of a group's sixteen

Product = Callable[[torch.Tensor], torch.Tensor]
"""From float32 [rows, inputs], values in [-1, 1], to float32 [rows, outputs]."""


def padded_rows(wanted: int, precision: str, device: torch.device) -> int:
    """The number of rows, at least ``wanted``, that products on ``device`` are to have."""
    if precision == "int8" or device.type == "cpu":
        return max(wanted, MINIMUM_ROWS)
    return -(-wanted // CUDA_ROWS) * CUDA_ROWS


def in_blocks(function: Product, device: torch.device) -> Product:
    """``function`` of rows; on CUDA of ``CUDA_ROWS`` of them at a time."""
    if device.type == "cpu":
        return function
    return lambda x: torch.cat([function(block) for block in x.split(CUDA_ROWS)])


def product(weight: torch.Tensor, precision: str, device: torch.device) -> Product:
    """The product on ``device`` with ``weight`` (float32 [outputs, inputs], on the CPU), which is converted
    and packed once.

    In int8 the inputs are a multiple of 32, and the outputs of 16.
    """
    if precision == "int8":
        return _int8_product(weight, device)
    if precision == "float32":
        whole = weight.to(device).contiguous()
        return in_blocks(lambda x: x @ whole.t(), device)
    low = weight.to(device, torch.bfloat16).contiguous()
    return in_blocks(lambda x: (x.to(torch.bfloat16) @ low.t()).to(torch.float32), device)


def _int8_product(weight: torch.Tensor, device: torch.device) -> Product:
    # An LSTM's state lies in (-1, 1), so one fixed scale serves every row: no row's rounding depends on the
    # largest value in the batch, and sums of integers are exact in any order.
    low, scale = int8_weight(weight)
    if not kernels.by_loops(device):
        columns, scales = low.to(device).t(), (scale / LEVELS).to(device)
        return lambda x: torch._int_mm(signed_levels(x), columns).float() * scales
    multiplier = avx2.multiplier if avx2.usable() else library_multiplier
    multiply = multiplier(low, scale / LEVELS, LEVELS)
    return lambda x: multiply(levels(x))


def int8_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``weight``, float32 [outputs, inputs], as int8, and what a step of it is worth, float32 [outputs].

    Processors without VNNI add products in 16 bits, saturating without a word: oneDNN two of them, our own
    kernel those of a group. So few levels of the state leave room for most weights as they are (of a trained
    model a tenth of the outputs gets coarser ones, by a tenth), and every processor comes to the same sums.
    """
    # Integers, for sums of other floats would depend on the processor's vectors, and so would scales.
    unit = 2.0 ** (_WEIGHT_BITS - exponent(weight))
    integers = torch.round(weight * unit)
    groups = integers.reshape(len(weight), -1, avx2.GROUP, 2, 2)  # outputs, groups, quads, halves, pairs
    positive, negative = (part.clamp_min(0).sum(dim=(2, 4)).amax(dim=(1, 2)) for part in (groups, -groups))
    # The levels are 0 to twice the zero's, and rounding adds up to half a step to each weight of a group.
    room = (2**15 - 1) // (2 * LEVELS) - avx2.GROUP
    scale = torch.maximum(integers.abs().amax(dim=1) / 127, torch.maximum(positive, negative) / room)
    scale = (scale / unit).clamp_min(1e-12)
    return torch.round(weight / scale[:, None]).to(torch.int8), scale


def library_multiplier(weight: torch.Tensor, scale: torch.Tensor, zero: int) -> Product:
    """The same as ``avx2.multiplier``, by oneDNN."""
    packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
    zeros = torch.zeros(len(weight), dtype=torch.int64)
    return lambda levels: torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, zero, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )

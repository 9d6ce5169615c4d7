"""Matrix products ``x @ W.T`` in the precision that the sampling settings ask for.

In all three precisions a row of the result is a function of that row of ``x`` alone, bit for bit, as long as
there are at least ``MINIMUM_ROWS`` rows: below that the libraries switch to other kernels, which round
otherwise. The engine pads to it; ``tests/sampling/test_products.py`` holds the libraries to it.

On CUDA the library may choose another kernel for any number of rows, so there every product is of exactly
``CUDA_ROWS`` rows, as many times as it takes.
"""

from collections.abc import Callable

import torch

from reelmill.errors import RequestError

MINIMUM_ROWS = 32
CUDA_ROWS = 1024
_LEVELS = 64  # of int8's state on each side of 0

Product = Callable[[torch.Tensor], torch.Tensor]
"""From float32 [rows, inputs], values in [-1, 1], to float32 [rows, outputs]."""


def padded_rows(wanted: int, device: torch.device) -> int:
    """The number of rows, at least ``wanted``, that products on ``device`` are to have."""
    if device.type == "cpu":
        return max(wanted, MINIMUM_ROWS)
    return -(-wanted // CUDA_ROWS) * CUDA_ROWS


def in_blocks(function: Product, device: torch.device) -> Product:
    """``function`` of rows; on CUDA of ``CUDA_ROWS`` of them at a time."""
    if device.type == "cpu":
        return function
    return lambda x: torch.cat([function(block) for block in x.split(CUDA_ROWS)])


def product(weight: torch.Tensor, precision: str) -> Product:
    """The product with ``weight`` (float32 [outputs, inputs]), which is converted and packed once."""
    return in_blocks(_product(weight, precision), weight.device)


def _product(weight: torch.Tensor, precision: str) -> Product:
    if precision == "float32":
        weight = weight.contiguous()
        return lambda x: x @ weight.t()
    if precision == "bfloat16":
        low = weight.to(torch.bfloat16).contiguous()
        return lambda x: (x.to(torch.bfloat16) @ low.t()).to(torch.float32)
    if weight.device.type != "cpu":
        raise RequestError("sampling.precision: int8 runs on CPUs only; use bfloat16 on a GPU")
    return _int8_product(weight)


def _int8_product(weight: torch.Tensor) -> Product:
    # An LSTM's state lies in (-1, 1), so one fixed scale serves every row: no row's rounding depends on the
    # largest value in the batch, and sums of integers are exact in any order. Weights have a scale an output.
    # Processors without VNNI add two products in 16 bits, saturating without a word; 129 levels of the state
    # leave room for both (2 * 128 * 127 < 2**15), so every processor comes to the same sum.
    scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
    quantized = torch.round(weight / scale[:, None]).clamp(-127, 127).to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(quantized.contiguous(), None)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)

    def multiply(x: torch.Tensor) -> torch.Tensor:
        levels = x.mul(_LEVELS).add_(_LEVELS + 0.5).to(torch.uint8)  # truncation after +0.5: rounds half up
        return torch.ops.onednn.qlinear_pointwise(
            levels, 1 / _LEVELS, _LEVELS, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    return multiply

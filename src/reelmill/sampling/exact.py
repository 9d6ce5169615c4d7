"""Linear layers whose sums are exact, so that they are the same on every processor and library.

A float's sum depends on its order, and each library has its own. So both factors are rounded to integers,
small enough that no sum of their products exceeds 2^53; up to there float64 has every integer, whatever the
order and whether or not multiplications are fused with additions. For 1,024 inputs that leaves each factor
21 bits, near to the 24 of a float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

_EXACT = 53  # bits of float64


def exact_linear(
    weight: torch.Tensor, bias: torch.Tensor, integer_bits: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from ``x`` to ``x @ weight.T + bias``, float32 [rows, inputs] to [rows, outputs].

    ``weight`` is float32 [outputs, inputs], ``bias`` float32 [outputs], and magnitudes in ``x`` are up to
    2 to the ``integer_bits``. A sum is rounded to float32, and once more where its bias is added.
    """
    bits = _EXACT - (weight.shape[1] - 1).bit_length()
    left, right = 2.0 ** (bits // 2 - integer_bits), 2.0 ** (bits - bits // 2 - exponent(weight))
    integers = _fixed_point(weight, right)
    unit = 1.0 / (left * right)

    def linear(x: torch.Tensor) -> torch.Tensor:
        return (_fixed_point(x, left) @ integers.t()).mul_(unit).float().add_(bias)

    return linear


def _fixed_point(x: torch.Tensor, scale: float) -> torch.Tensor:
    """``x`` times ``scale``, a power of two, rounded half to even: integers, as float64."""
    return x.double().mul_(scale).round_()


def exponent(x: torch.Tensor) -> int:
    """The smallest n for which 2^n is more than every magnitude in ``x``."""
    return math.frexp(float(x.abs().max()))[1]

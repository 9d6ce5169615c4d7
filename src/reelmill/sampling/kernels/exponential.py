"""exp(x) and log(x) of float32 by the four operations alone, each rounded once, so the same everywhere.

Libraries' functions are a little faster and as near, and every library's rounds otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from reelmill.compiled import inlined

# A float32 of up to 2^22 added to it is rounded half to even, and the integer stands in the sum's last bits.
ROUNDING = np.float32(1.5 * 2**23)
_PER_LOG2 = np.float32(1 / math.log(2))
_COARSE = np.float32(355 / 512)  # of log 2, with so few bits that its product with n is exact
_FINE = np.float32(math.log(2) - 355 / 512)
# The series: over half of log 2 the next term is less than float32's precision.
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(index)) for index in range(8))
_BIAS, _MANTISSA = np.int32(127), np.int32(23)  # of float32's bits (IEEE 754)

_ROOT = np.int32(0x3F3504F3)  # the square root of a half, in a float32's bits
_L0, _L1, _L2, _L3, _L4 = (np.float32(2 / (2 * index + 1)) for index in range(5))


@inlined
def exponential(x: np.float32) -> np.float32:
    """exp(x), from -87 to 87: 2^n exp(x - n log 2), the latter by its series."""
    shifted = x * _PER_LOG2 + ROUNDING
    n = shifted - ROUNDING
    rest = (x - n * _COARSE) - n * _FINE
    square = rest * rest
    # Neighbours first, so that the processor has several sums to do at once.
    low = (_C0 + _C1 * rest) + (_C2 + _C3 * rest) * square
    high = (_C4 + _C5 * rest) + (_C6 + _C7 * rest) * square
    bits = np.int32(np.float32(shifted).view(np.int32) + _BIAS)
    return (low + high * (square * square)) * np.int32(bits << _MANTISSA).view(np.float32)


def exponential_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    """The same bits, on any device."""
    shifted = x * float(_PER_LOG2) + float(ROUNDING)
    n = shifted - float(ROUNDING)
    rest = (x - n * float(_COARSE)) - n * float(_FINE)
    square = rest * rest
    low = (rest * float(_C1) + float(_C0)) + (rest * float(_C3) + float(_C2)) * square
    high = (rest * float(_C5) + float(_C4)) + (rest * float(_C7) + float(_C6)) * square
    power = (shifted.view(torch.int32) + int(_BIAS)) << int(_MANTISSA)
    return (low + high * (square * square)) * power.view(torch.float32)


@inlined
def logarithm(x: np.float32) -> np.float32:
    """log(x) of what is not negative, -88 of 0: n log 2 + log(x / 2^n), the latter by its series."""
    bits = np.float32(x).view(np.int32)
    n = np.int32(np.int32(bits - _ROOT) >> _MANTISSA)
    part = np.int32(bits - np.int32(n << _MANTISSA)).view(np.float32)  # from the root of a half to that of 2
    ratio = (part - _C0) / (part + _C0)
    square = ratio * ratio
    series = ((((_L4 * square + _L3) * square + _L2) * square + _L1) * square + _L0) * ratio
    power = np.float32(n)
    return power * _COARSE + (power * _FINE + series)


def logarithm_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    """The same bits, on any device."""
    bits = x.view(torch.int32)
    n = (bits - int(_ROOT)) >> int(_MANTISSA)
    part = (bits - (n << int(_MANTISSA))).view(torch.float32)
    ratio = (part - 1.0) / (part + 1.0)
    square = ratio * ratio
    series = square * float(_L4) + float(_L3)
    for term in (_L2, _L1, _L0):
        series = series * square + float(term)
    power = n.to(torch.float32)
    return power * float(_COARSE) + (power * float(_FINE) + series * ratio)

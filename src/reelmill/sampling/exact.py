"""Linear layers whose sums are exact, so that they are the same on every processor and library.

A float's sum depends on its order, and each library has its own. So both factors are rounded to integers,
small enough that no sum of their products exceeds 2^53; up to there float64 has every integer, whatever the
order and whether or not multiplications are fused with additions. For 1,024 inputs that leaves each factor
21 bits, near to the 24 of a float32.

GPUs are slow in float64, up to 64 times slower than in float32. They add the same integers up as products of
their bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from reelmill.sampling import kernels

_EXACT = 53  # bits of float64
_BYTE = 8  # bits
_CPU = torch.device("cpu")


def exact_linear(
    weight: torch.Tensor, bias: torch.Tensor, integer_bits: int, device: torch.device = _CPU
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function on ``device`` from ``x`` to ``x @ weight.T + bias``, float32 [rows, inputs] to [rows,
    outputs].

    ``weight`` is float32 [outputs, inputs] and ``bias`` float32 [outputs], both on the CPU, and magnitudes in
    ``x`` are up to 2 to the ``integer_bits``. A sum is rounded to float32, and once more where its bias is
    added. On a GPU inputs and outputs are multiples of 8, and rows are more than 16.
    """
    bits = _EXACT - (weight.shape[1] - 1).bit_length()
    of_x, of_weight = bits // 2, bits - bits // 2
    left, right = 2.0 ** (of_x - integer_bits), 2.0 ** (of_weight - exponent(weight))
    add_up = _by_doubles if kernels.by_loops(device) else _by_bytes
    integers = torch.round(weight.double() * right).to(device)
    added = (bias + (weight * 0).sum(dim=1)).to(device)  # bytes do not show that a weight is no number
    multiply, unit = add_up(integers, left, of_x, of_weight), 1.0 / (left * right)
    return lambda x: multiply(x).mul_(unit).float().add_(added)


def _by_doubles(weight: torch.Tensor, scale: float, *_: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from ``x`` times ``scale``, rounded half to even, to its product with ``weight.T``, all of
    them integers, as float64.
    """
    return lambda x: x.double().mul_(scale).round_() @ weight.t()


def _by_bytes(
    weight: torch.Tensor, scale: float, x_bits: int, weight_bits: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same where magnitudes are up to 2 to the given bits, each byte of the one by each of the other."""
    outputs, of_x, of_weight = len(weight), _bytes_of(x_bits), _bytes_of(weight_bits)
    columns = _bytewise(weight, of_weight).t()
    places = torch.arange(of_x)[:, None, None, None] + torch.arange(of_weight)[:, None]
    worth = (1 << places * _BYTE).to(weight.device)

    def multiply(x: torch.Tensor) -> torch.Tensor:
        # A power of two times a float32, and integers of so few bits, are exact in float32.
        products = torch._int_mm(_bytewise(torch.round(x * scale), of_x), columns)
        return (products.reshape(of_x, len(x), of_weight, outputs) * worth).sum(dim=(0, 2)).double()

    return multiply


def _bytes_of(bits: int) -> int:
    """How many bytes from -128 to 127 hold magnitudes up to 2 to the ``bits``."""
    return -(-(bits + 2) // _BYTE)


def _bytewise(integers: torch.Tensor, count: int) -> torch.Tensor:
    """Signed bytes, int8 [count × rows, columns]: the lowest of all rows, then the next."""
    rest, found = integers.to(torch.int32), []
    for _ in range(count):
        found.append(rest.to(torch.int8))  # the lowest byte, from -128 to 127
        rest = (rest - found[-1]) >> _BYTE
    return torch.cat(found)


def exponent(x: torch.Tensor) -> int:
    """The smallest n for which 2^n is more than every magnitude in ``x``."""
    return math.frexp(float(x.abs().max()))[1]

"""The random numbers of a song: a function of (seed, song, attempt, position) and of nothing else.

A counter-based generator needs no state: the number at any position is computed by itself, for all slots at
once, on any device, in any order. This is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011). The 64-bit seed is the key; position, attempt and the two halves of
the song's number are the counter. Arithmetic is in int64, where products wrap and are masked to 32 bits, so
the same code runs on CPU and CUDA. On CPUs ``blocks`` does the same in machine code: for a few rows, as
songs begin, PyTorch's hundred operations cost more than they compute.
"""

import functools
from collections.abc import Callable

import torch
from llvmlite import ir

from reelmill.machine_code import FLOATS, INDEX, INTEGER, INTEGERS, LANES, Code, floats, integers, number

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(
    counter: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], key: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four 32-bit words, as int64, for each counter. The four counter tensors broadcast together."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        # The shift is arithmetic; the mask drops the sign it drags in.
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniforms(seed: int, songs: torch.Tensor, attempts: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """One float32 in [0, 1), of 24 random bits, for each (song, attempt, position) (int64, broadcast)."""
    zeros = torch.zeros_like(songs)
    words = philox(
        (positions & _MASK, (attempts & _MASK) + zeros, songs & _MASK, (songs >> 32) & _MASK),
        (seed & _MASK, (seed >> 32) & _MASK),
    )
    return (words[0] >> 8).to(torch.float32) * 2.0**-24


def blocks(
    seed: int, songs: torch.Tensor, attempts: torch.Tensor, positions: torch.Tensor, length: int
) -> torch.Tensor:
    """The numbers of ``length`` positions from each row's on: float32 [rows, length].

    ``songs``, ``attempts`` and ``positions`` are int64 [rows].
    """
    if songs.device.type != "cpu":
        return blocks_by_pytorch(seed, songs, attempts, positions, length)
    rows, columns = len(songs), -(-length // LANES) * LANES
    result = torch.empty(rows, columns)
    if rows:
        given = (each.contiguous() for each in (songs, attempts, positions))
        _blocks()(*given, result, rows, columns, seed & _MASK, (seed >> 32) & _MASK)
    return result[:, :length]


def blocks_by_pytorch(
    seed: int, songs: torch.Tensor, attempts: torch.Tensor, positions: torch.Tensor, length: int
) -> torch.Tensor:
    """The same on any device."""
    ahead = torch.arange(length, device=songs.device)
    return uniforms(seed, songs[:, None], attempts[:, None], positions[:, None] + ahead)


@functools.cache
def _blocks() -> Callable[..., None]:
    code = Code(places=4, numbers=4)
    builder, (songs, attempts, positions, result, rows, columns, low, high) = code.builder, code.arguments
    ahead = ir.Constant(INTEGERS, list(range(LANES)))
    wide = ir.VectorType(INDEX, LANES)

    def spread(value: ir.Value) -> ir.Value:
        return code.spread(builder.trunc(value, INTEGER))

    def product(value: ir.Value, multiplier: int) -> tuple[ir.Value, ir.Value]:
        """The upper and the lower half of a product."""
        full = builder.mul(builder.zext(value, wide), ir.Constant(wide, [multiplier] * LANES))
        upper = builder.lshr(full, ir.Constant(wide, [32] * LANES))
        return builder.trunc(upper, INTEGERS), builder.trunc(full, INTEGERS)

    with code.loop(rows, 1) as row:
        song, attempt, position = (
            code.load(code.at(each, builder.mul(row.at, number(8))), INDEX)
            for each in (songs, attempts, positions)
        )
        with code.loop(columns, LANES) as column:
            c0 = builder.add(spread(builder.add(position, column.at)), ahead)
            c1, c2, c3 = spread(attempt), spread(song), spread(builder.lshr(song, number(32)))
            k0, k1 = spread(low), spread(high)
            for _ in range(_ROUNDS):
                (high0, low0), (high1, low1) = product(c0, _MULTIPLIERS[0]), product(c2, _MULTIPLIERS[1])
                c0 = builder.xor(builder.xor(high1, c1), k0)
                c2 = builder.xor(builder.xor(high0, c3), k1)
                c1, c3 = low1, low0
                k0, k1 = builder.add(k0, integers(_WEYL[0])), builder.add(k1, integers(_WEYL[1]))
            fraction = builder.sitofp(builder.lshr(c0, integers(8)), FLOATS)
            place = builder.add(builder.mul(row.at, columns), column.at)
            code.store(
                builder.fmul(fraction, floats(2.0**-24)), code.at(result, builder.mul(place, number(4)))
            )
    return code.finished()

"""The random numbers of a song: a function of (seed, song, attempt, position) and of nothing else.

A counter-based generator needs no state: the number at any position is computed by itself, for all slots at
once, on any device, in any order. This is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011). The 64-bit seed is the key; position, attempt and the two halves of
the song's number are the counter. Arithmetic is in int64, where products wrap and are masked to 32 bits, so
the same code runs on CPU and CUDA. On CPUs ``blocks`` does the same in a compiled loop: for a few rows, as
songs begin, PyTorch's hundred operations cost more than they compute.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled
from reelmill.sampling import kernels

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
# The same for compiled loops, where all words are unsigned.
_M0, _M1, _W0, _W1, _WORD, _HALF, _DROPPED = map(np.uint64, (*_MULTIPLIERS, *_WEYL, _MASK, 32, 8))
_UNIT = np.float32(2.0**-24)


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
    if not kernels.by_loops(songs.device):
        return blocks_by_pytorch(seed, songs, attempts, positions, length)
    result = torch.empty(len(songs), length)
    given = (each.contiguous().numpy() for each in (songs, attempts, positions, result))
    _blocks(np.uint64(seed & _MASK), np.uint64((seed >> 32) & _MASK), *given)
    return result


def blocks_by_pytorch(
    seed: int, songs: torch.Tensor, attempts: torch.Tensor, positions: torch.Tensor, length: int
) -> torch.Tensor:
    """The same on any device."""
    ahead = torch.arange(length, device=songs.device)
    return uniforms(seed, songs[:, None], attempts[:, None], positions[:, None] + ahead)


@compiled
def _blocks(
    low: np.uint64,
    high: np.uint64,
    songs: NDArray[np.int64],
    attempts: NDArray[np.int64],
    positions: NDArray[np.int64],
    result: NDArray[np.float32],
) -> None:
    rows, length = result.shape
    for row in range(rows):
        song, attempt, position = np.uint64(songs[row]), np.uint64(attempts[row]), np.uint64(positions[row])
        for ahead in range(length):
            c0, c1 = (position + np.uint64(ahead)) & _WORD, attempt & _WORD
            c2, c3 = song & _WORD, song >> _HALF
            k0, k1 = low, high
            for _ in range(_ROUNDS):
                p0, p1 = c0 * _M0, c2 * _M1
                c0, c1 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _WORD
                c2, c3 = (p0 >> _HALF) ^ c3 ^ k1, p0 & _WORD
                k0, k1 = (k0 + _W0) & _WORD, (k1 + _W1) & _WORD
            result[row, ahead] = np.float32(np.int32(c0 >> _DROPPED)) * _UNIT

"""The random numbers of a song: a function of (seed, song, attempt, position) and of nothing else.

A counter-based generator needs no state: the number at any position is computed by itself, for all slots at
once, on any device, in any order. This is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011). The 64-bit seed is the key; position, attempt and the two halves of
the song's number are the counter. Arithmetic is in int64, where products wrap and are masked to 32 bits, so
the same code runs on CPU and CUDA.
"""

import torch

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

"""Samples as 16-bit PCM: the peak of a song's samples, the integers they are stored as, and their energy.

NumPy needs two passes for the first, three for the second and a copy in float64 for the third, which together
take a third of a rendering's time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reelmill.compiled import compiled

_SIGNLESS = np.uint32(0x7FFFFFFF)


def peak(samples: NDArray[np.float32]) -> float:
    """The largest magnitude of ``samples``, contiguous and of any shape; infinity where one is no number."""
    highest = np.uint32(_peak(samples.reshape(-1).view(np.uint32))).view(np.float32)
    return np.inf if np.isnan(highest) else float(highest)


def to_integers(samples: NDArray[np.float32], scale: float, result: NDArray[np.int16]) -> None:
    """Write ``samples`` times ``scale``, rounded half to even, to ``result`` of the same shape; both are
    contiguous, and no product is larger than int16 holds.
    """
    _to_integers(samples.reshape(-1), np.float32(scale), result.reshape(-1))


def energy(samples: NDArray[np.int16]) -> int:
    """The sum of the squares of ``samples``, of any shape; exact for two hours at full scale, and longer."""
    return int(_energy(np.ascontiguousarray(samples).reshape(-1)))


@compiled
def _peak(patterns: NDArray[np.uint32]) -> np.uint32:
    # Without their signs, the bit patterns of floats (IEEE 754) are in the floats' order, with infinity above
    # all numbers, and above it what is none.
    highest = np.uint32(0)
    for index in range(len(patterns)):
        highest = max(highest, np.uint32(patterns[index] & _SIGNLESS))
    return highest


@compiled
def _to_integers(samples: NDArray[np.float32], scale: np.float32, result: NDArray[np.int16]) -> None:
    for index in range(len(samples)):
        result[index] = np.int16(np.rint(samples[index] * scale))


@compiled
def _energy(samples: NDArray[np.int16]) -> np.int64:
    total = np.int64(0)
    for index in range(len(samples)):
        total += np.int64(samples[index]) * np.int64(samples[index])
    return total

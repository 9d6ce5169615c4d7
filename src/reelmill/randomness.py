"""Random bits that are a function of their key alone.

Nothing here has a state, so a draw does not depend on what was drawn before, on the rank or on the device:
the key (seed, step, row …) says all. The mixing is SplitMix64's finalizer (Steele, Lea & Flood 2014, "Fast
splittable pseudorandom number generators"), applied once for each word of the key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keyed_bits(*key: int | npt.NDArray[np.integer]) -> Words:
    """64 random bits for each key; words of a key that are arrays broadcast against each other (uint64)."""
    bits = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for word in key:
            bits = _mix((bits ^ _as_words(word)) + _GOLDEN)
    return bits


def keyed_below(limit: int, *key: int | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """An integer in [0, ``limit``) for each key (int64)."""
    return (keyed_bits(*key) % np.uint64(limit)).astype(np.int64)


def keyed_permutation(count: int, *key: int) -> npt.NDArray[np.int64]:
    """A permutation of 0 … ``count`` - 1 (int64)."""
    return np.argsort(keyed_bits(*key, np.arange(count)), kind="stable")


def _as_words(word: int | npt.NDArray[np.integer]) -> Words:
    if isinstance(word, int):
        return np.asarray(word % 2**64, dtype=np.uint64)
    return np.asarray(word).astype(np.uint64)


def _mix(bits: Words) -> Words:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))

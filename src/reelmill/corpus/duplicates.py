"""Near-duplicates: which tunes are so similar that they must not stand on two sides of a split.

Candidates come from MinHash (datasketch; Broder 1997) with banding: two tunes are compared when a band of
their signatures is equal. Each candidate is verified with the normalized indel similarity of the whole text
(rapidfuzz), and verified pairs are joined into connected components. Bands are columns that are sorted one at
a time, so memory grows by a few numbers a tune, not by a hash table.

Measured against brute force over every pair of the 5,011 bodies of ``irish`` and ``traditional``: all of the
427 pairs that are 0.85 similar were found, and 96 % of those 0.75 similar; all of the 366 pairs of melodies
whatever their key. ``irish`` alone has no similar pair of bodies and 4 of melodies, all found. A band agrees
for about 0.4 % of all pairs; most of those are told apart by their sketches, without reading a text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from datasketch import MinHash
from rapidfuzz import fuzz, process

SHINGLE = 5  # characters of a body
MELODY_SHINGLE = 6  # steps of a melody, whose alphabet is smaller
ROWS = 2  # signature values a band
BANDS = 64
_BATCH = 1 << 16  # pairs

Keys = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


def band_keys(text: str, shingle: int = SHINGLE) -> Keys:
    """One number a band (int64 ``[BANDS]``); two texts are candidates if they agree in any."""
    shingles = {text[start : start + shingle] for start in range(max(1, len(text) - shingle + 1))}
    signature = _empty_signature().copy()
    signature.update_batch([item.encode("utf-8", "surrogatepass") for item in shingles])
    # Values are below 2**32, so a band of two is one number without a collision.
    values = signature.hashvalues.astype(np.uint64).reshape(BANDS, ROWS)
    return ((values[:, 0] << np.uint64(32)) | values[:, 1]).view(np.int64)


@functools.cache
def _empty_signature() -> MinHash:
    """What every signature begins as; to draw its permutations takes as long as to hash a tune."""
    return MinHash(num_perm=ROWS * BANDS, seed=1)


class Components:
    """Connected components of ``size`` nodes, as a forest of parents (int64)."""

    def __init__(self, size: int) -> None:
        self._parents = np.arange(size, dtype=np.int64)

    def roots(self, nodes: Indices) -> Indices:
        """For each node the one that stands for its component: the smallest index in it."""
        found = self._parents[nodes]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                self._parents[nodes] = found
                return found
            found = above

    def join(self, first: Indices, second: Indices) -> None:
        """Put the ends of each edge into one component."""
        for one, other in zip(first, second, strict=True):
            low, high = sorted(self.roots(np.array([one, other])))
            self._parents[high] = low

    def labels(self) -> Indices:
        """The root of every node."""
        return self.roots(np.arange(len(self._parents)))


def join_similar(
    components: Components,
    nodes: Indices,
    band: Callable[[int], Keys],
    texts: Callable[[Indices], Sequence[str]],
    similarity: float,
    workers: int = 1,
    bands: Iterable[int] = range(BANDS),
) -> None:
    """Join those of ``nodes`` whose texts are at least ``similarity`` alike, as far as banding finds them.

    ``band(i)`` gives the keys of all ``nodes`` in band i (``[nodes]``), ``texts(some)`` the texts of some
    nodes. ``bands`` are all numbers of bands, perhaps in something that shows how far they have come.
    """
    sketches = _sketches(band, len(nodes))
    least = _least_agreement(similarity)
    for number in bands:
        for first, second in _batches(_equal_pairs(band(number))):
            apart = components.roots(nodes[first]) != components.roots(nodes[second])
            apart[apart] = (sketches[first[apart]] == sketches[second[apart]]).sum(axis=1) >= least
            first, second = nodes[first[apart]], nodes[second[apart]]
            if len(first):
                alike = _alike(texts(first), texts(second), similarity, workers)
                components.join(first[alike], second[alike])


def similar_pairs(texts: Sequence[str], similarity: float) -> npt.NDArray[np.bool_]:
    """Which texts are at least ``similarity`` alike, by comparing all (bool ``[texts, texts]``).

    An empty text is like none.
    """
    scores = process.cdist(texts, texts, scorer=fuzz.ratio, score_cutoff=100 * similarity, dtype=np.float64)
    filled = np.array([bool(text) for text in texts])
    return np.asarray((scores > 0) & filled[:, None] & filled[None, :])


def _sketches(band: Callable[[int], Keys], nodes: int) -> npt.NDArray[np.uint8]:
    """A byte of each signature value (``[nodes, ROWS * BANDS]``), after Li and König 2010 (b-bit MinHash)."""
    sketches = np.empty((nodes, ROWS * BANDS), dtype=np.uint8)
    for number in range(BANDS):
        keys = band(number)
        sketches[:, 2 * number] = keys & 0xFF
        sketches[:, 2 * number + 1] = (keys >> 32) & 0xFF
    return sketches


def _least_agreement(similarity: float) -> int:
    """How many signature values must agree for a pair to be worth comparing as text.

    A quarter of what is expected where differences are spread evenly, which is where they hurt most: a
    shingle then survives with probability similarity to the power of its length.
    """
    survive = similarity**MELODY_SHINGLE
    return math.ceil(ROWS * BANDS * survive / (2 - survive) / 4)


def _batches(pairs: Iterable[tuple[Indices, Indices]]) -> Iterator[tuple[Indices, Indices]]:
    """The same pairs in fewer, larger portions."""
    waiting: list[tuple[Indices, Indices]] = []
    count = 0
    for portion in pairs:
        waiting.append(portion)
        count += len(portion[0])
        if count >= _BATCH:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(portions: list[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    return np.concatenate([one for one, _ in portions]), np.concatenate([two for _, two in portions])


def _equal_pairs(keys: Keys) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of nodes with equal keys, in portions of at most one pair a node."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    active = np.arange(len(keys) - 1)
    distance = 1
    while len(active):
        active = active[active + distance < len(keys)]
        active = active[ordered[active] == ordered[active + distance]]
        if len(active):
            yield order[active], order[active + distance]
        distance += 1


def _alike(
    first: Sequence[str], second: Sequence[str], similarity: float, workers: int
) -> npt.NDArray[np.bool_]:
    scores = process.cpdist(
        first, second, scorer=fuzz.ratio, score_cutoff=100 * similarity, dtype=np.float64, workers=workers
    )
    return np.asarray(scores > 0)

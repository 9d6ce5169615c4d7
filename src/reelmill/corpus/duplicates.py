"""Near-duplicates: which tunes are so similar that they must not stand on two sides of a split.

Candidates come from MinHash (datasketch; Broder 1997) with banding: two tunes are compared when a band of
their signatures is equal. Each candidate is verified with the normalized indel similarity of the whole text
(rapidfuzz), and verified pairs are joined into connected components. Bands are columns that are sorted one at
a time, so memory grows by a few numbers a tune, not by a hash table.

Measured against brute force over every pair of the 5,011 bodies of ``irish`` and ``traditional``: all of the
427 pairs that are 0.85 similar were found, and 96 % of those 0.75 similar; all of the 366 pairs of melodies
whatever their key. ``irish`` alone has no similar pair of bodies and 4 of melodies, all found. The bands make
about 0.4 % of all pairs candidates; a comparison costs a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from datasketch import MinHash
from rapidfuzz import fuzz, process

SHINGLE = 5  # characters
ROWS = 2  # signature values a band
BANDS = 64

Keys = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


def band_keys(text: str) -> Keys:
    """One number a band (int64 ``[BANDS]``); two texts are candidates if they agree in any."""
    shingles = {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}
    signature = MinHash(num_perm=ROWS * BANDS, seed=1)
    signature.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
    # Values are below 2**32, so a band of two is one number without a collision.
    values = signature.hashvalues.astype(np.uint64).reshape(BANDS, ROWS)
    return ((values[:, 0] << np.uint64(32)) | values[:, 1]).view(np.int64)


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
) -> None:
    """Join those of ``nodes`` whose texts are at least ``similarity`` alike, as far as banding finds them.

    ``band(i)`` gives the keys of all ``nodes`` in band i (``[nodes]``), ``texts(some)`` the texts of some
    nodes; neither needs to be in memory as a whole.
    """
    for number in range(BANDS):
        for first, second in _equal_pairs(band(number)):
            first, second = nodes[first], nodes[second]
            apart = components.roots(first) != components.roots(second)
            first, second = first[apart], second[apart]
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

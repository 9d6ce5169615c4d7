"""Train, validation and test: by duplicate cluster, by hash, and for ever.

The side of a cluster is a hash of its smallest member's identity and of the seed, so that it depends on no
order and on no other cluster. A tune that was once assigned keeps its side when the corpus grows, and a new
tune takes the side of the cluster it joins. A new tune that would join clusters on different sides is left
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

SIDES = ("train", "validation", "test")
UNASSIGNED = -1
BRIDGE = -2

Sides = npt.NDArray[np.int8]


def identity(text: str) -> int:
    """63 bits of a hash of ``text``: what a tune's body is known by from one build to the next."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def side_of(cluster: int, seed: int, validation_fraction: float, test_fraction: float) -> int:
    """The index into SIDES for a cluster that has none yet, uniform in its identity."""
    place = identity(f"{seed}:{cluster:016x}") / 2**63
    if place < test_fraction:
        return SIDES.index("test")
    if place < test_fraction + validation_fraction:
        return SIDES.index("validation")
    return SIDES.index("train")


def assign(
    components: npt.NDArray[np.int64],
    identities: npt.NDArray[np.int64],
    before: Sides,
    choose: Callable[[int], int],
    similar: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]],
) -> tuple[Sides, npt.NDArray[np.int64]]:
    """The side of every node (an index into SIDES, or BRIDGE) and the identity of its cluster.

    ``components`` and ``identities`` are ``[nodes]``; ``before`` holds the sides assigned earlier, or
    UNASSIGNED. ``choose(cluster identity)`` gives a new cluster's side. ``similar(nodes)`` compares all of a
    few nodes (bool ``[n, n]``); it is only asked where a component has been assigned to several sides.
    """
    sides = before.copy()
    clusters = np.empty_like(identities)
    for members in _groups(components):
        earlier = set(before[members].tolist()) - {UNASSIGNED}
        if not earlier:
            sides[members] = choose(int(identities[members].min()))
        elif len(earlier) == 1:
            sides[members] = earlier.pop()
        else:
            sides[members] = _assign_between(before[members], identities[members], choose, similar(members))
        for side in set(sides[members].tolist()):
            part = members[sides[members] == side]
            clusters[part] = identities[part].min()
    return sides, clusters


def _assign_between(
    before: Sides,
    identities: npt.NDArray[np.int64],
    choose: Callable[[int], int],
    similar: npt.NDArray[np.bool_],
) -> Sides:
    """Sides within one component whose earlier members stand on several sides; those members stay."""
    sides = before.copy()
    touched = np.stack([similar[:, before == side].any(axis=1) for side in range(len(SIDES))], axis=1)
    new = before == UNASSIGNED
    sides[new & (touched.sum(axis=1) > 1)] = BRIDGE
    free = np.flatnonzero(sides == UNASSIGNED)
    if len(free) == 0:
        return sides
    # New tunes may still form a chain from one side to another.
    _, chains = connected_components(similar[np.ix_(free, free)], directed=False)
    for members in _groups(chains.astype(np.int64)):
        chain = free[members]
        reached = np.flatnonzero(touched[chain].any(axis=0))
        if len(reached) == 0:
            sides[chain] = choose(int(identities[chain].min()))
        else:
            sides[chain] = reached[0] if len(reached) == 1 else BRIDGE
    return sides


def _groups(labels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The indices of each label's members."""
    order = np.argsort(labels, kind="stable")
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    return [group for group in np.split(order, borders) if len(group)]

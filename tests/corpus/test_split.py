"""Sides are chosen by hash and kept for ever, and no two similar tunes stand on two of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reelmill.corpus.duplicates import Components
from reelmill.corpus.split import BRIDGE, SIDES, UNASSIGNED, assign, identity, side_of

TRAIN, VALIDATION, TEST = range(len(SIDES))


def graph(edges: set[tuple[int, int]], nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """(component of each node, which nodes are similar)."""
    similar = np.eye(nodes, dtype=bool)
    components = Components(nodes)
    for one, other in edges:
        similar[one, other] = similar[other, one] = True
        components.join(np.array([one]), np.array([other]))
    return components.labels(), similar


def choose(cluster: int) -> int:
    return side_of(cluster, 0, 0.3, 0.3)


NODES = 12
node = st.integers(0, NODES - 1)


@given(st.sets(st.tuples(node, node), max_size=20), st.integers(0, NODES), st.permutations(range(NODES)))
def test_growth_keeps_sides_and_never_puts_similar_tunes_apart(
    edges: set[tuple[int, int]], old: int, order: list[int]
) -> None:
    identities = np.array([identity(f"tune {number}") for number in range(NODES)])
    early = {edge for edge in edges if max(edge) < old}
    components, similar = graph(early, NODES)
    first, _ = assign(
        components[:old], identities[:old], np.full(old, UNASSIGNED, np.int8), choose, lambda nodes: similar
    )
    assert (first >= 0).all(), "nothing is left out of a first build"

    components, similar = graph(edges, NODES)
    before = np.concatenate([first, np.full(NODES - old, UNASSIGNED)]).astype(np.int8)
    sides, clusters = assign(
        components, identities, before, choose, lambda nodes: similar[np.ix_(nodes, nodes)]
    )
    assert np.array_equal(sides[:old], first)
    for one, other in edges:
        if sides[one] >= 0 and sides[other] >= 0 and max(one, other) >= old:
            assert sides[one] == sides[other]
    for cluster in set(clusters[sides >= 0].tolist()):
        assert len(set(sides[(clusters == cluster) & (sides >= 0)].tolist())) == 1

    moved = np.array(order)
    labels = np.array([components[moved].tolist().index(components[item]) for item in moved])
    again, same = assign(
        labels, identities[moved], before[moved], choose,
        lambda nodes: similar[np.ix_(moved[nodes], moved[nodes])],
    )  # fmt: skip
    assert np.array_equal(again, sides[moved]) and np.array_equal(same, clusters[moved])


def test_a_bridge_is_left_out_and_only_the_bridge() -> None:
    # 0 trains, 1 tests; 2 is like both, 3 like 0 only, 4-5 a chain from 0 to 1, 6 like only the bridge.
    components, similar = graph({(0, 2), (2, 1), (0, 3), (0, 4), (4, 5), (5, 1), (2, 6)}, 7)
    before = np.array([TRAIN, TEST, *[UNASSIGNED] * 5], dtype=np.int8)
    sides, _ = assign(
        components, np.arange(7), before, lambda _: VALIDATION, lambda nodes: similar[np.ix_(nodes, nodes)]
    )
    assert sides.tolist() == [TRAIN, TEST, BRIDGE, TRAIN, BRIDGE, BRIDGE, VALIDATION]


def test_fractions_hold_and_the_seed_matters() -> None:
    clusters = [identity(str(number)) for number in range(20_000)]
    sides = np.array([side_of(cluster, 7, 0.05, 0.1) for cluster in clusters])
    shares = [(sides == side).mean() for side in (TRAIN, VALIDATION, TEST)]
    assert np.allclose(shares, [0.85, 0.05, 0.1], atol=0.01)
    other = np.array([side_of(cluster, 8, 0.05, 0.1) for cluster in clusters])
    assert 0.7 < (sides == other).mean() < 0.8

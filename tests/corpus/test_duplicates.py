"""Near-duplicates are found, as brute force over all pairs would find them, and nothing else is joined."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelmill.corpus.duplicates import (
    MELODY_SHINGLE,
    SHINGLE,
    Components,
    band_keys,
    join_similar,
    similar_pairs,
)
from reelmill.corpus.examine import body_of
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.intervals import interval_text
from reelmill.notation.transposition import transpose

FIELDS = ["X", "T", "M", "L", "K"]
SIMILARITY = 0.85


def tunes_of(raw: list[str]) -> list[str]:
    found = []
    for tune in raw:
        try:
            found.append(canonical(tune, FIELDS))
        except NotATune:
            continue
    return found


def cluster(texts: Sequence[str], similarity: float = SIMILARITY, shingle: int = SHINGLE) -> np.ndarray:
    bands = np.stack([band_keys(text, shingle) for text in texts])
    components = Components(len(texts))
    join_similar(
        components,
        np.arange(len(texts)),
        lambda number: bands[:, number],
        lambda some: [texts[index] for index in some],
        similarity,
    )
    return components.labels()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["body", "intervals"])
def test_recall_against_brute_force_on_real_tunes(
    kind: str, irish: list[str], traditional: list[str]
) -> None:
    tunes = tunes_of(irish + traditional)
    texts = sorted({body_of(tune) if kind == "body" else interval_text(tune) for tune in tunes} - {""})
    labels = cluster(texts, shingle=SHINGLE if kind == "body" else MELODY_SHINGLE)
    pairs = np.argwhere(np.triu(similar_pairs(texts, SIMILARITY), 1))
    assert len(pairs) > 300
    found = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    assert found.mean() >= 0.99

    # Nothing is joined that brute force would not join.
    whole = Components(len(texts))
    whole.join(pairs[:, 0], pairs[:, 1])
    assert np.array_equal(whole.labels()[labels], whole.labels())


def test_a_transposed_copy_has_the_same_intervals(irish: list[str]) -> None:
    tunes = tunes_of(irish)[:150]
    originals = [interval_text(tune) for tune in tunes]
    copies = []
    for tune in tunes:
        try:
            copies.append(interval_text(transpose(tune, 2)))
        except NotATune:
            copies.append("")
    same = [copy for original, copy in zip(originals, copies, strict=True) if original == copy]
    assert len(same) > 140


def test_clusters_do_not_depend_on_the_order(irish: list[str]) -> None:
    texts = list({body_of(tune): None for tune in tunes_of(irish)})
    order = np.random.default_rng(0).permutation(len(texts))
    labels, shuffled = cluster(texts, 0.7), np.empty(len(texts), dtype=np.int64)
    shuffled[order] = cluster([texts[index] for index in order], 0.7)
    assert len(set(labels.tolist())) < len(texts)
    for left, right in ((labels, shuffled), (shuffled, labels)):
        assert len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(set(left.tolist()))


@given(
    st.integers(2, 40).flatmap(lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
)
def test_components_are_what_the_edges_connect(edges: list[tuple[int, int]]) -> None:
    nodes = 40
    components = Components(nodes)
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    components.join(pairs[:, 0], pairs[:, 1])
    reached = np.eye(nodes, dtype=bool)
    reached[pairs[:, 0], pairs[:, 1]] = reached[pairs[:, 1], pairs[:, 0]] = True
    for _ in range(6):
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    labels = components.labels()
    assert np.array_equal(labels[:, None] == labels[None, :], reached)

"""From examined tunes to a division: which rows stay, in which cluster, on which side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt

from reelmill.corpus.duplicates import Components, Indices, Keys, join_similar, similar_pairs
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.split import SIDES, UNASSIGNED, Sides, assign, side_of
from reelmill.errors import RequestError


@dataclass(frozen=True)
class Division:
    """Arrays ``[tunes]`` of the valid tunes that are no exact copy, in the order of the sources.

    ``rows`` are their rows among the examined, ``sides`` indices into SIDES, or BRIDGE for one left out.
    """

    rows: Indices
    identities: Keys
    sides: Sides
    clusters: Keys


def divide(examined: datasets.Dataset, settings: CorpusSettings, earlier: dict[int, int]) -> Division:
    """Divide the tunes of ``examine``. ``earlier`` maps identities of bodies to the sides they must keep.

    Raises RequestError, with the reasons counted, if no tune is valid, and if none falls to training.
    """
    reasons = column(examined, "reason")
    valid = np.flatnonzero(reasons == "")
    if len(valid) == 0:
        counted = ", ".join(f"{reason}: {count}" for reason, count in Counter(reasons).most_common())
        raise RequestError(f"corpus.source = {settings.source!r}: no valid tune ({counted})")
    rows = valid[np.sort(np.unique(column(examined, "whole")[valid], return_index=True)[1])]

    # Tunes with one body are one node of the graph, under however many titles it goes.
    identities, firsts, nodes = np.unique(
        column(examined, "identity")[rows], return_index=True, return_inverse=True
    )
    node_rows = rows[firsts]
    sides, clusters = assign(
        _cluster(examined, node_rows, settings).labels(),
        identities,
        np.array([earlier.get(key, UNASSIGNED) for key in identities.tolist()], dtype=np.int8),
        lambda cluster: side_of(
            cluster, settings.split_seed, settings.validation_fraction, settings.test_fraction
        ),
        lambda members: _similar(examined, node_rows[members], settings.similarity),
    )
    if not (sides == SIDES.index("train")).any():
        raise RequestError(
            f"corpus.source = {settings.source!r}: of {len(rows)} valid tunes none falls to training; "
            "use more tunes or another corpus.split_seed"
        )
    return Division(rows, identities[nodes], sides[nodes], clusters[nodes])


def column(examined: datasets.Dataset, name: str) -> npt.NDArray:
    """A whole column of plain values as an array ``[rows]``."""
    return np.asarray(examined.data.column(name).to_numpy())


def _cluster(examined: datasets.Dataset, rows: Indices, settings: CorpusSettings) -> Components:
    """Components of the tunes whose bodies, or whose melodies in whatever key, are similar."""
    components = Components(len(rows))
    _join(components, examined, rows, "body", settings)
    _join(components, examined, rows, "intervals", settings)
    return components


def _join(
    components: Components, examined: datasets.Dataset, rows: Indices, name: str, settings: CorpusSettings
) -> None:
    tunes = examined.select_columns([name])
    nodes = np.flatnonzero(_band(examined, f"{name}_bands", 0)[rows])  # 0: no text

    def band(number: int) -> Keys:
        return _band(examined, f"{name}_bands", number)[rows[nodes]]

    def texts(some: Indices) -> list[str]:
        return list(tunes[rows[some].tolist()][name])

    join_similar(components, nodes, band, texts, settings.similarity, settings.num_proc)


def _band(examined: datasets.Dataset, name: str, number: int) -> Keys:
    """One band of all rows; the other bands stay on the disk."""
    chunks = examined.data.column(name).chunks
    return np.concatenate([chunk.flatten().to_numpy().reshape(len(chunk), -1)[:, number] for chunk in chunks])


def _similar(examined: datasets.Dataset, rows: Indices, similarity: float) -> npt.NDArray[np.bool_]:
    tunes = examined.select_columns(["body", "intervals"])[rows.tolist()]
    return similar_pairs(tunes["body"], similarity) | similar_pairs(tunes["intervals"], similarity)

"""From examined tunes to a division: which rows stay, in which cluster, on which side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt

from reelmill.corpus.duplicates import BANDS, Components, Indices, Keys, join_similar, similar_pairs
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
    bands = _bands(examined, f"{name}_bands", rows)
    nodes = np.flatnonzero(bands[0])  # 0: no text

    def band(number: int) -> Keys:
        return bands[number, nodes]

    def texts(some: Indices) -> list[str]:
        return list(tunes[rows[some].tolist()][name])

    watched = datasets.utils.tqdm(range(BANDS), desc=f"Comparing by {name}")
    join_similar(components, nodes, band, texts, settings.similarity, settings.processes(len(nodes)), watched)


def _bands(examined: datasets.Dataset, name: str, rows: Indices) -> Keys:
    """The bands of some rows (int64 ``[BANDS, rows]``): half a kilobyte a tune, read from the disk once."""
    bands = np.empty((BANDS, len(examined)), dtype=np.int64)
    first = 0
    for chunk in examined.data.column(name).chunks:
        bands[:, first : first + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), BANDS).T
        first += len(chunk)
    return bands[:, rows]


def _similar(examined: datasets.Dataset, rows: Indices, similarity: float) -> npt.NDArray[np.bool_]:
    tunes = examined.select_columns(["body", "intervals"])[rows.tolist()]
    return similar_pairs(tunes["body"], similarity) | similar_pairs(tunes["intervals"], similarity)

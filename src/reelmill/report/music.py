"""What the page says of songs as music: their figures beside real tunes', forms, nearest training tunes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from reelmill import durable
from reelmill.layout import INDEX
from reelmill.music.form import letters, read_sections
from reelmill.music.score import read_any
from reelmill.report.plots import Plot, bars
from reelmill.songs.make.reference import corpus_settings
from reelmill.songs.results.analysis import music_table
from reelmill.songs.results.collect import SUMMARY
from reelmill.songs.store.plan import Plan

_PLOTS = (
    ("Intervals", "intervals", "semitones from note to note", True),
    ("Pitches", "pitch_classes", "semitones above the tonic", True),
    ("Note lengths", "lengths", "of a whole note", True),
    ("Likeness to the nearest training tune", "similarity", "0: nothing in common; 1: a copy", True),
    ("Form", "structure", "", False),
    ("Bars of the sections", "section_bars", "", False),
    ("Meters", "meter", "", False),
    ("Modes", "mode", "", False),
    ("Range", "pitch_range", "semitones", True),
)  # title, what of a population, label, whether its names are numbers
_LEAST = 0.005  # of what is numbers, rarer ones are left out
_MOST = 12  # of what is names, the commonest are shown
_LENGTHS = {
    "0.0625": "1/16", "0.0833333": "1/12", "0.125": "1/8", "0.1875": "3/16", "0.25": "1/4", "0.375": "3/8",
    "0.5": "1/2", "0.75": "3/4", "1": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Neighbour:
    """The nearest training tune of a song; without its text where the corpus is not built."""

    title: str
    similarity: float
    copied: int  # notes
    abc: str


@dataclass(frozen=True)
class Music:
    """The music of a songs directory, empty before it is collected. ``neighbours`` are by the songs' ids."""

    headings: list[str] = field(default_factory=list)
    rows: list[tuple[str, list[str]]] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    neighbours: dict[int, Neighbour] = field(default_factory=dict)


def read_music(directory: Path, plan: Plan, songs: Sequence[int]) -> Music:
    """What ``collect`` found, with the neighbours of ``songs``."""
    music = durable.read_json(directory / SUMMARY).get("music") if (directory / SUMMARY).is_file() else None
    if not music:
        return Music()
    return Music(*music_table(music), _plots(music), _neighbours(directory, plan, songs))


def form_of(abc: str) -> list[tuple[str, int]]:
    """(letter, bars) of each section as it is heard, repeats written out."""
    heard = []
    sections = read_sections(read_any(abc))
    form = iter(letters(sections))
    for section in sections:
        heard += [(next(form), section.length) for _ in range(2 if section.repeated else 1)]
    return heard


def _plots(music: Mapping[str, Any]) -> list[Plot]:
    """The songs beside the training tunes, in their likeness to those beside the held-out tunes."""
    plots = []
    for title, name, label, numbers in _PLOTS:
        other = "held_out" if name == "similarity" else "training"
        shares = {"songs": _shares(music["songs"], name)}
        if other in music:
            shares["held-out tunes" if other == "held_out" else "training tunes"] = _shares(
                music[other], name
            )
        names = _names(list(shares.values()), numbers)
        if len(names) > 1:
            values = {who: [found.get(key, 0.0) for key in names] for who, found in shares.items()}
            said = [_LENGTHS.get(key, key) if name == "lengths" else key for key in names]
            plots.append(bars(title, values, said, label))
    return plots


def _shares(population: Mapping[str, Any], name: str) -> dict[str, float]:
    shares: dict[str, float] = (population["nearest"] or {} if name == "similarity" else population).get(
        name, {}
    )
    return shares


def _names(shares: list[dict[str, float]], numbers: bool) -> list[str]:
    """What a plot shows: numbers in their order, names by how common they are."""
    total = Counter({name: 0.0 for share in shares for name in share})
    for share in shares:
        total.update(share)
    if numbers:
        return sorted((name for name, value in total.items() if value >= _LEAST), key=float)
    return [name for name, _ in total.most_common(_MOST)]


def _neighbours(directory: Path, plan: Plan, songs: Sequence[int]) -> dict[int, Neighbour]:
    columns = ["id", "nearest_tune", "nearest_title", "nearest_similarity", "copied_notes"]
    rows = pq.read_table(directory / INDEX, columns=columns, filters=[("id", "in", list(songs))]).to_pylist()
    rows = [row for row in rows if row["nearest_tune"] is not None]
    texts = _training_texts(directory, plan, [row["nearest_tune"] for row in rows]) if rows else {}
    return {
        row["id"]: Neighbour(
            title=row["nearest_title"],
            similarity=row["nearest_similarity"],
            copied=row["copied_notes"],
            abc=texts.get(row["nearest_tune"], ""),
        )
        for row in rows
    }


def _training_texts(directory: Path, plan: Plan, places: Sequence[int]) -> dict[int, str]:
    """The tunes at these places in the corpus; none where it is not built."""
    from reelmill.corpus.build import corpus_directory, load_or_build

    settings = corpus_settings(directory, plan)
    if settings is None or not corpus_directory(settings).is_dir():
        return {}
    train = load_or_build(settings).tunes["train"]
    rows = np.flatnonzero(np.isin(np.array(train["index"]), places))
    return {row["index"]: row["text"] for row in train.select(rows)}

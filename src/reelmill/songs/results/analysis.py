"""Songs as music: the figures of each and its nearest training tune, and all of them beside real tunes.

A song is read once. Large directories are read by every processor, a shard at a time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from reelmill.corpus.settings import CorpusSettings
from reelmill.durable import digest
from reelmill.music.figures import COLUMNS, NOTES, Figures, Population, divergences, figures
from reelmill.music.score import read_any
from reelmill.music.similarity import Nearest, melody_text
from reelmill.resources import processors
from reelmill.songs.make.reference import TrainingMusic, training_music

MUSIC_COLUMNS = {
    **COLUMNS,
    "nearest_tune": "int64",  # its place in the corpus: reelmill corpus show NAME --index I
    "nearest_title": "string",
    "nearest_similarity": "float64",
    "copied_notes": "int32",
    "duplicate_of": "int64",
}
"""What is added to a song's row, and the Arrow types; null where there is nothing to say."""

TABLE = (
    ("form", "pass `form`", "%"),
    ("inner_bars_right", "inner bars of the right length", "%"),
    ("ends_on_tonic", "last note on the tonic", "%"),
    ("even_sections", "sections of 4, 8 or 16 bars", "%"),
    ("two_repeated_eights", "two repeated parts of eight bars", "%"),
    ("distinct_bars", "distinct bars in a tune", "%"),
    ("bars_as_4_before", "bars like that four before", "%"),
    ("self_similarity", "likeness of a tune's bars", "%"),
    ("common_bars", "bars that are one of the 15 commonest", "%"),
    ("sections", "sections a tune", ""),
    ("pitch_range", "range, semitones", ""),
)
"""The means of a population that are shown: name, what it is called, unit."""

_POPULATIONS = (
    ("songs", "songs"),
    ("training", "training tunes"),
    ("held_out", "held-out tunes"),
    ("half", "half of the training tunes"),
    ("other half", "the other half"),
)

_WORTH_A_PROCESS = 20_000  # songs, which take a minute

Row = dict[str, Any]


@dataclass(frozen=True)
class Analysed:
    """The songs of a shard: their rows with MUSIC_COLUMNS, figures, melodies' hashes ("" for none), and the
    nearest tunes, if there is anything to compare with.
    """

    rows: list[Row]
    measured: list[Figures]
    melodies: list[str]
    nearest: Nearest | None


class Analyst:
    """Reads the songs of shards; ``read`` gives the rows of one. Without ``music`` nothing is compared."""

    def __init__(self, read: Callable[[int], list[Row]], music: TrainingMusic | None) -> None:
        self._read, self._music = read, music

    def __call__(self, number: int) -> Analysed:
        """The songs of shard ``number``."""
        rows = self._read(number)
        scores = [read_any(row["abc"]) for row in rows]
        measured = [figures(score) for score in scores]
        melodies = [melody_text(score) for score in scores]
        music = self._music
        nearest = music.melodies.nearest(melodies) if music else None
        for place, (row, tune) in enumerate(zip(rows, measured, strict=True)):
            row.update(dict.fromkeys(MUSIC_COLUMNS))
            row.update(tune.columns)
            if music and nearest and nearest.tune[place] >= 0:
                found = int(nearest.tune[place])
                row["nearest_tune"], row["nearest_title"] = music.indices[found], music.titles[found]
                row["nearest_similarity"] = round(float(nearest.similarity[place]), 4)
                row["copied_notes"] = int(nearest.copied[place])
        hashed = [digest(melody.encode()) if melody else "" for melody in melodies]
        return Analysed(rows, measured, hashed, nearest)


def analyse(
    shards: int,
    songs: int,
    read: Callable[[int], list[Row]],
    corpus: CorpusSettings | None,
    music: TrainingMusic | None,
) -> Iterator[Analysed]:
    """The ``shards``, which hold ``songs`` songs, in order. ``read`` can be pickled; processes of their own
    open the ``music`` of the ``corpus`` again.
    """
    workers = min(processors(), shards, 1 + songs // _WORTH_A_PROCESS)
    if workers <= 1:
        yield from map(Analyst(read, music), range(shards))
        return
    # Not forked: threads of the libraries may hold locks.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _begin, (read, corpus if music else None)) as executor:
        yield from executor.map(_analysed, range(shards))


_analyst: Analyst | None = None  # of a process of ``analyse``


def _begin(read: Callable[[int], list[Row]], corpus: CorpusSettings | None) -> None:
    global _analyst
    _analyst = Analyst(read, training_music(corpus) if corpus else None)


def _analysed(number: int) -> Analysed:
    assert _analyst is not None
    return _analyst(number)


class Together:
    """All songs together: their population, and which are the same melody."""

    def __init__(self) -> None:
        self._population = Population()
        self._first: dict[str, int] = {}
        self._duplicates = 0

    def add(self, shard: Analysed) -> None:
        """Add a shard, and say in its rows which song an earlier one is the melody of, in whatever key."""
        for row, tune, melody in zip(shard.rows, shard.measured, shard.melodies, strict=True):
            self._population.add(tune)
            first = self._first.setdefault(melody, row["id"]) if melody else row["id"]
            if first != row["id"]:
                row["duplicate_of"] = first
                self._duplicates += 1
        if shard.nearest:
            self._population.add_nearest(shard.nearest)

    def to_json(self, music: TrainingMusic | None) -> dict[str, Any]:
        """The ``music`` of summary.json: the songs, and beside them what ``music`` says of real tunes."""
        songs = {**self._population.to_json(), "duplicates": self._duplicates}
        if music is None:
            return {"songs": songs}
        return {
            "songs": {**songs, "divergences": divergences(songs, music.populations["training"])},
            **music.populations,
        }


def music_table(music: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings, and rows of (name, a cell a heading): the ``music`` of summary.json for people. Rows in which
    nothing could be measured are left out.
    """
    found = {**music, **dict(zip(("half", "other half"), music.get("halves", ()), strict=False))}
    shown = [(found[name], heading) for name, heading in _POPULATIONS if name in found]
    rows = [
        (heading, [_cell(population["means"][name], unit) for population, _ in shown])
        for name, heading, unit in TABLE
    ]
    for name in NOTES:
        heading = f"{name.replace('_', ' ')}: divergence from training tunes, bits"
        rows.append((heading, [_divergence(population, name) for population, _ in shown]))
    for name, heading, unit in (
        ("mean", "likeness to the nearest training tune, mean", "%"),
        ("most", "… and the most", "%"),
        ("copied_notes", "longest copied run, mean notes", ""),
        ("most_copied_notes", "… and the most", ""),
    ):
        rows.append(
            (heading, [_cell((population["nearest"] or {}).get(name), unit) for population, _ in shown])
        )
    duplicates = [_cell(population.get("duplicates"), "") for population, _ in shown]
    rows.append(("songs whose melody an earlier song has", duplicates))
    return [heading for _, heading in shown], [row for row in rows if {*row[1]} != {"–"}]


def _divergence(population: dict[str, Any], name: str) -> str:
    found = population.get("divergences")
    return f"{found[name]:.4f}" if found else "–"


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "%":
        return f"{value:.1%}".replace("%", " %")
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"

"""What a tune is like, in figures: bars, form, tonic, repetition; and what many tunes are like together.

A figure is a function of one tune. A population adds figures up, so a million songs take no more memory than
a thousand, and two populations are compared by their means and by the Jensen-Shannon divergence of what their
notes are (in bits: 0 for the same, 1 for nothing in common; Lin 1991).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from reelmill.music.form import Section, bar_content, letters, read_sections, whole_bars, wrong_form
from reelmill.music.score import REST, TICKS, Bar, Score
from reelmill.music.similarity import Nearest
from reelmill.notation.meter import plain_meter

COLUMNS = {
    "structure": "string",  # AABB
    "section_bars": "string",  # 8+8
    "sections": "int32",
    "even_sections": "float64",
    "two_repeated_eights": "bool",
    "inner_bars_right": "float64",
    "ends_on_tonic": "bool",
    "distinct_bars": "float64",
    "bars_as_4_before": "float64",
    "self_similarity": "float64",
    "mode": "string",
    "lowest_pitch": "int32",
    "highest_pitch": "int32",
    "pitch_range": "int32",
}
"""The figures of a tune in index.parquet, and their Arrow types; null where a tune has nothing to measure."""

MEANS = (
    "form", "inner_bars_right", "ends_on_tonic", "even_sections", "two_repeated_eights", "distinct_bars",
    "bars_as_4_before", "self_similarity", "sections", "pitch_range",
)  # fmt: skip
"""What a population has the mean of; of a yes or no, its share."""

NOTES = ("intervals", "pitch_classes", "lengths")
"""What populations are compared by, note by note."""

_MODES = {
    "": "major", "m": "minor", "dor": "dorian", "mix": "mixolydian", "phr": "phrygian", "lyd": "lydian",
    "loc": "locrian",
}  # fmt: skip
_EVEN = (4, 8, 16)
_OCTAVE = 12
_COMMON = 15
_BUCKETS = 1 << 20  # that bars are counted in; two bars rarely share one, and the commonest hardly notice
_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one tune. ``columns`` has those of COLUMNS; the arrays count notes (int64)."""

    columns: dict[str, Any]
    form: bool
    meter: str
    key: str
    intervals: NDArray[np.int64]  # [25], from an octave down (or more) to an octave up
    pitch_classes: NDArray[np.int64]  # [12], above the tonic, or C where there is none
    lengths: dict[int, int]  # by ticks
    bars: NDArray[np.int64]  # what is played in each bar, hashed


def figures(score: Score) -> Figures:
    """The figures of a tune that has been read."""
    sections = read_sections(score)
    parts = [list(whole_bars(section.bars)) for section in sections]
    bars = [bar for part in parts for bar in part]
    contents = [bar_content(bar) for bar in bars]
    fifth = [pair for part in parts for pair in zip(part, part[4:], strict=False)]
    later = [bar_content(bar) for section in sections for bar in section.endings]
    pitches = np.array(score.pitches, dtype=np.int64)
    tonic = score.key.tonic_class
    lengths = [section.length for section in sections]
    low, high = (int(pitches.min()), int(pitches.max())) if len(pitches) else (None, None)
    columns = {
        "structure": letters(sections),
        "section_bars": "+".join(map(str, lengths)),
        "sections": len(sections),
        "even_sections": _share(length in _EVEN for length in lengths),
        "two_repeated_eights": _repeated_eights(sections) >= 2,
        "inner_bars_right": _inner_bars_right(score.bars),
        "ends_on_tonic": score.pitches[-1] % _OCTAVE == tonic
        if tonic is not None and score.pitches
        else None,
        "distinct_bars": _ratio(len({*contents, *later}), len(contents) + len(later)),
        "bars_as_4_before": _share(bar_content(one) == bar_content(other) for one, other in fifth),
        "self_similarity": _self_similarity(bars),
        "mode": _MODES[score.key.mode] if tonic is not None else None,
        "lowest_pitch": low,
        "highest_pitch": high,
        "pitch_range": None if low is None or high is None else high - low,
    }
    return Figures(
        columns=columns,
        form=score.meter is not None and not wrong_form(score, sections),
        meter=plain_meter(score.meter.text) if score.meter else "",
        key=score.key.text,
        intervals=np.bincount(np.clip(np.diff(pitches), -_OCTAVE, _OCTAVE) + _OCTAVE, minlength=25),
        pitch_classes=np.bincount((pitches - (tonic or 0)) % _OCTAVE, minlength=_OCTAVE),
        lengths=Counter(score.lengths),
        bars=np.array([hash(content) for content in [*contents, *later]], dtype=np.int64),
    )


def _repeated_eights(sections: Sequence[Section]) -> int:
    """How many parts of eight bars are heard twice, by a sign or written out."""
    marked = sum(section.repeated for section in sections if section.length == 8)
    plain = [section for section in sections if section.length == 8 and not section.repeated]
    written = letters(plain)
    return marked + sum(one == other for one, other in pairwise(written))


def _inner_bars_right(bars: Sequence[Bar]) -> float | None:
    """The share of full bars among those that neither begin nor end a section or an ending."""
    inner = (
        bar
        for bar, following in pairwise(bars)
        if bar.sign in ("|", ".|")
        and following.sign in ("|", ".|", "")
        and not (bar.ending or following.ending)
    )
    return _share(bar.lasts == bar.full for bar in inner if bar.full is not None)


def _self_similarity(bars: Sequence[Bar]) -> float | None:
    """The mean Dice coefficient of all pairs of bars, of the notes that have one onset and pitch in both."""
    rows: list[int] = []
    notes: list[int] = []
    for row, bar in enumerate(bars):
        onset = 0
        for pitch, length in zip(bar.pitches, bar.lengths, strict=False):
            if pitch != REST:
                rows.append(row)
                notes.append(onset << 8 | pitch)
            onset += length
    if len(bars) < 2 or not notes:
        return None
    distinct, columns = np.unique(notes, return_inverse=True)
    played = np.zeros((len(bars), len(distinct)), dtype=np.float32)
    played[rows, columns] = 1
    sizes = played.sum(axis=1)
    pairs = sizes[:, None] + sizes
    dice = 2 * (played @ played.T) / np.maximum(pairs, 1)
    np.fill_diagonal(dice, 0)
    return round(float(dice.sum(dtype=np.float64)) / (len(bars) * (len(bars) - 1)), 4)


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return _ratio(sum(found), len(found))


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


@dataclass
class Population:
    """The figures of many tunes, added up."""

    tunes: int = 0
    _sums: Counter[str] = field(default_factory=Counter)
    _measured: Counter[str] = field(default_factory=Counter)
    _named: dict[str, Counter[str]] = field(default_factory=dict)
    _intervals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * _OCTAVE + 1, dtype=np.int64))
    _pitch_classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_OCTAVE, dtype=np.int64))
    _lengths: Counter[int] = field(default_factory=Counter)
    _bars: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BUCKETS, dtype=np.int64))
    _similarities: list[NDArray[np.float64]] = field(default_factory=list)
    _copied: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, tune: Figures) -> None:
        """Add a tune."""
        self.tunes += 1
        for name, value in {**tune.columns, "form": tune.form}.items():
            if name in MEANS and value is not None:
                self._sums[name] += value
                self._measured[name] += 1
        named = {
            "meter": tune.meter,
            "key": tune.key,
            "mode": tune.columns["mode"] or "none",
            "structure": tune.columns["structure"],
            "section_bars": tune.columns["section_bars"],
            "pitch_range": tune.columns["pitch_range"],
        }
        for name, value in named.items():
            self._named.setdefault(name, Counter())
            if value is not None:
                self._named[name][str(value)] += 1
        self._intervals += tune.intervals
        self._pitch_classes += tune.pitch_classes
        self._lengths.update(tune.lengths)
        np.add.at(self._bars, tune.bars & (_BUCKETS - 1), 1)

    def add_nearest(self, nearest: Nearest) -> None:
        """Add what is known of some tunes' nearest."""
        self._similarities.append(nearest.similarity)
        self._copied.append(nearest.copied)

    def to_json(self) -> dict[str, Any]:
        """``tunes``, ``means`` (None where nothing could be measured), the most common names and what the
        notes are, as shares that add up to 1.
        """
        bars = int(self._bars.sum())
        common = int(np.sort(self._bars)[-_COMMON:].sum())
        means: dict[str, float | None] = {
            name: round(self._sums[name] / self._measured[name], 4) if self._measured[name] else None
            for name in MEANS
        }
        means["common_bars"] = _ratio(common, bars)
        intervals = {str(step - _OCTAVE): int(count) for step, count in enumerate(self._intervals)}
        pitches = {str(step): int(count) for step, count in enumerate(self._pitch_classes)}
        lengths = {f"{length / TICKS:.6g}": count for length, count in sorted(self._lengths.items())}
        return {
            "tunes": self.tunes,
            "means": means,
            "nearest": self._nearest(),
            **{
                name: _shares(dict(counts.most_common(_NAMED)), self.tunes)
                for name, counts in self._named.items()
            },
            **{
                name: _shares(counts, sum(counts.values()))
                for name, counts in zip(NOTES, (intervals, pitches, lengths), strict=True)
            },
        }

    def _nearest(self) -> dict[str, Any] | None:
        """How near the tunes' nearest are, and how much is copied from those; None where none was sought."""
        if not any(map(len, self._similarities)):
            return None
        similarity, copied = np.concatenate(self._similarities), np.concatenate(self._copied)
        shares = np.histogram(similarity, bins=20, range=(0, 1))[0] / max(1, len(similarity))
        return {
            "tunes": len(similarity),
            "mean": round(float(similarity.mean()), 4),
            "most": round(float(similarity.max()), 4),
            "copied_notes": round(float(copied.mean()), 4),
            "most_copied_notes": int(copied.max()),
            "similarity": {
                f"{bin / 20:g}": round(float(share), 6) for bin, share in enumerate(shares) if share
            },
        }


def divergences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """The Jensen-Shannon divergence, in bits, of each of NOTES, between two populations' ``to_json``."""
    return {name: _divergence(one[name], other[name]) for name in NOTES}


def _divergence(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    names = sorted({*one, *other})
    first, second = (np.array([counts.get(name, 0.0) for name in names]) for counts in (one, other))
    if not (first.any() and second.any()):
        return 1.0
    return round(float(jensenshannon(first, second, base=2)) ** 2, 5)


def _shares(counts: Mapping[str, int], total: int) -> dict[str, float]:
    return {name: round(count / total, 6) for name, count in counts.items() if count}

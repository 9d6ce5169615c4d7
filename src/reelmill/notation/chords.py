"""Chord symbols: quoted text that names a chord, ABC 2.1 section 4.18, as abc2midi knows it."""

from __future__ import annotations

import re
from functools import lru_cache

# The names that abc2midi plays (its manual's ``%%MIDI chordname`` lists them), and major, which has none.
_PLAYED = frozenset(
    ("", "m", "6", "m6", "7", "m7", "maj7", "M7", "9", "m9", "maj9", "M9", "11", "sus", "sus2", "sus4",
     "sus9", "7sus2", "7sus4", "7sus9", "aug", "+", "aug7", "dim", "dim7", "dim9", "m7b5", "5")
)  # fmt: skip
# What else people write for one of them. Of what is none, the longest beginning that is one stays: a 7b9 is
# played as a 7.
_SAME = {
    "M": "", "ma": "", "Maj": "", "maj": "", "Δ": "maj7", "j7": "maj7", "M6": "6", "maj6": "6", "Δ7": "maj7",
    "min": "m", "mi": "m", "Min": "m", "-": "m", "°": "dim", "o": "dim", "°7": "dim7", "o7": "dim7",
    "ø": "m7b5", "ø7": "m7b5", "-7b5": "m7b5", "mmaj7": "m", "mM7": "m", "7+": "aug7", "+7": "aug7",
    "7#5": "aug7", "7+5": "aug7", "aug9": "aug7", "+9": "aug7", "13": "9", "maj13": "maj9", "M13": "maj9",
    "maj11": "maj9", "m11": "m9", "m13": "m9", "9sus4": "7sus4", "9sus": "7sus4", "7sus": "7sus4",
    "13sus4": "7sus4", "13sus": "7sus4", "add9": "", "add2": "", "2": "", "4": "sus4",
}  # fmt: skip
_MINOR = re.compile(r"(?:min|mi|Min|Mi|-)(?=[\d(]|add|maj|M|$)")
_MAJOR = re.compile(r"(?:Maj|Ma|ma|MA)(?=[\d(]|add|$)")
_QUALITY = re.compile(
    r"(?:maj|Maj|MA|ma|min|Min|mi|Mi|dim|aug|sus|add|alt|[mMjo°øΔ+#b\-\d]|\([#b+\-]?\d{1,2}\)|\(maj7\))*"
)
_SYMBOL = re.compile(
    r"([A-G])([#b♯♭]?)([^\s/(]*(?:\([#b+\-]?\d{1,2}\)|\(maj7\))*)(?:/([A-Ga-g])([#b♯♭]?))?(?: ?\(.*\)?)?"
)
_ACCIDENTALS = {"♯": "#", "♭": "b"}


@lru_cache(maxsize=4096)
def chord_symbol(text: str) -> str:
    """The chord that quoted ``text`` names as abc2midi knows it: ``Em``, ``A7/C#``; empty if none.

    The root is a capital, a bass may be written small. Of alternates (``D(Bm)``) the first is taken.
    """
    text = text.strip().translate({ord(sign): plain for sign, plain in _ACCIDENTALS.items()})
    match = _SYMBOL.fullmatch(text.replace(" / ", "/").replace("6/9", "6"))
    if not match or not _QUALITY.fullmatch(match[3]):
        return ""
    bass = f"/{match[4].upper()}{match[5]}" if match[4] else ""
    return match[1] + match[2] + _quality(match[3]) + bass


def _quality(written: str) -> str:
    if written in _PLAYED:
        return written
    written = _MAJOR.sub("maj", _MINOR.sub("m", written, count=1), count=1)
    for length in range(len(written), -1, -1):
        beginning = written[:length]
        if beginning in _PLAYED or beginning in _SAME:
            return _SAME.get(beginning, beginning)
    return ""

"""What a player makes of a tune, and the books whose tunes are heard before and after canonical form."""

from __future__ import annotations

import re
from pathlib import Path

import symusic

from reelmill.audio import abc2midi
from reelmill.corpus import named
from reelmill.corpus.books import read_book

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]
Heard = list[tuple[int, int, int]]

ESSEN = named.NamedCorpus(
    description="tunes of the Essen Folksong Collection (music21), for tests only",
    licence="given to music21 for uses that earn no money; for tests only",
    requirement="music21==10.5.1",
    books={"essen": r"music21/corpus/essenFolksong/[\w.-]+\.abc"},
    sha256="77f36bf4b815b653927061f88433fb854f4fc217811ae7fb17ad94e2635d21a2",
)

# Tunes, by book and place in it from 0, that a player hears otherwise before than after. In all of them the
# canonical form has what is written, and abc2midi misreads what people wrote.
EXCEPTIONS: dict[str, dict[str, list[int]]] = {
    "a decoration before a slur, which abc2midi calls malformed; it stands before the note now": {
        "oneills-1850": [
            6, 9, 13, 132, 169, 170, 176, 179, 191, 198, 561, 575, 594, 597, 711, 848, 927, 989, 1229, 1238,
            1243, 1246, 1258, 1259, 1261, 1293, 1313, 1314, 1316, 1322, 1327, 1328, 1345, 1379, 1380, 1382,
            1383, 1385, 1397, 1399, 1401, 1408, 1409, 1411, 1452, 1517, 1535, 1557, 1568, 1572, 1578, 1579,
            1581, 1600, 1601, 1719, 1722,
        ],
        "ryans-mammoth": [33, 95, 118, 147, 180, 342, 497, 584, 926, 980],
    },
    "text in quotes that begins like a chord (a dynamic, a key), and is played as one": {
        "oneills-1850": [65, 82, 88, 129, 177, 592, 633, 634, 640, 696],
        "ryans-mammoth": [
            7, 23, 44, 122, 201, 207, 236, 290, 303, 421, 426, 546, 560, 571, 603, 643, 666, 682, 695, 726,
            752, 762, 954, 965, 972, 1010, 1022,
        ],
    },
    "characters that mean nothing there, before which abc2midi stumbles over notes": {
        "oneills-1850": [317, 841, 1914],
        "ryans-mammoth": [150, 394, 893, 1018],
        "essen": [2548, 6720],
    },
    "an order of parts, with repeats that abc2midi does not open in each part": {
        "airds-airs": [78, 381, 806, 1141, 1147, 1171],
    },
    "a repeat that nothing opens, or whose bar line is not to be seen": {
        "irish": [40],
        "airds-airs": [388],
        "oneills-1850": [1757],
        "ryans-mammoth": [152, 581],
    },
    "a sign over a bar line (Hx|), for which abc2midi plays a rest": {
        "oneills-1850": [
            75, 94, 312, 316, 373, 384, 416, 437, 451, 461, 510, 530, 552, 560, 577, 589, 1526, 1528, 1536,
            1538, 1540, 1543, 1553, 1560, 1561, 1565, 1573, 1589, 1591, 1602, 1616,
        ],
    },
    "marks for beams between notes of a broken rhythm": {
        "airds-airs": [555, 1090, 1109],
    },
}  # fmt: skip


def hear(abc: str) -> Heard:
    """(start, length, pitch) of each note that abc2midi plays, in ticks and MIDI pitches."""
    # R:hornpipe would swing the notes, and makes an error of it in other meters than 4/4.
    tune = re.sub(r"(?m)^(?:%%.*|R:.*)\n?", "", abc)
    midi = abc2midi.convert(re.sub(r"\A(?:X:.*\n)?", "X:1\n", tune), 60).midi
    tracks = symusic.Score.from_midi(midi).tracks if midi else []
    return sorted((note.time, note.duration, note.pitch) for track in tracks for note in track.notes)


def raw_tunes(*names: str) -> list[tuple[str, int, str]]:
    """(book, place in it from 0, raw tune) of all tunes of named corpora; RequestError out of their reach."""
    books: list[Path] = [book for name in names for book in sorted(named.get(name).glob("*.abc"))]
    return [(book.stem, place, tune) for book in books for place, tune in enumerate(read_book(book))]


def excepted() -> set[tuple[str, int]]:
    """(book, place) of every tune in EXCEPTIONS."""
    return {
        (book, place) for books in EXCEPTIONS.values() for book, places in books.items() for place in places
    }

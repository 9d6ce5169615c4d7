"""Real tunes for these tests, and ears: what a player makes of a tune."""

from collections.abc import Callable

import pytest
import symusic

from reelmill.audio import abc2midi
from reelmill.corpus import named
from reelmill.errors import RequestError
from reelmill.notation.book import split_book
from reelmill.notation.canonical import NotATune, canonical

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]
Heard = list[tuple[int, int, int]]


@pytest.fixture(scope="session")
def raw_tunes() -> list[str]:
    """The raw tunes of both named corpora."""
    try:
        books = [book for name in ("irish", "traditional") for book in sorted(named.get(name).glob("*.abc"))]
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")
    return [tune for book in books for tune in split_book(book.read_text(encoding="utf-8"))]


@pytest.fixture(scope="session")
def pairs(raw_tunes: list[str]) -> list[tuple[str, str]]:
    """(raw, canonical) of every tune in ``raw_tunes`` that has a canonical form."""
    found = []
    for raw in raw_tunes:
        try:
            found.append((raw, canonical(raw, FIELDS)))
        except NotATune:
            continue
    return found


@pytest.fixture(scope="session")
def hear() -> Callable[[str], Heard]:
    """Plays a tune with abc2midi: (start, length, pitch) of each note, in ticks and MIDI pitches."""

    def play(abc: str) -> Heard:
        # R:hornpipe would swing the notes, and makes an error of it in other meters than 4/4.
        lines = [line for line in abc.splitlines() if not line.startswith(("%%", "X:", "R:"))]
        midi = abc2midi.convert("\n".join(["X:1", *lines]) + "\n", 60).midi
        tracks = symusic.Score.from_midi(midi).tracks if midi else []
        return sorted((note.time, note.duration, note.pitch) for track in tracks for note in track.notes)

    return play

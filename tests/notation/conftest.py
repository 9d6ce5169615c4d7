"""Real tunes for these tests, and ears: what a player makes of a tune."""

from collections.abc import Callable

import pytest

from reelmill.errors import RequestError
from reelmill.notation.canonical import NotATune, canonical
from tests.notation import ears

NamedTunes = list[tuple[str, int, str]]


@pytest.fixture(scope="session")
def named_tunes() -> NamedTunes:
    """(book, place in it, raw tune) of both named corpora."""
    try:
        return ears.raw_tunes("irish", "traditional")
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")


@pytest.fixture(scope="session")
def raw_tunes(named_tunes: NamedTunes) -> list[str]:
    """The raw tunes of both named corpora."""
    return [tune for _, _, tune in named_tunes]


@pytest.fixture(scope="session")
def pairs(raw_tunes: list[str]) -> list[tuple[str, str]]:
    """(raw, canonical) of every tune in ``raw_tunes`` that has a canonical form."""
    found = []
    for raw in raw_tunes:
        try:
            found.append((raw, canonical(raw, ears.FIELDS)))
        except NotATune:
            continue
    return found


@pytest.fixture(scope="session")
def hear() -> Callable[[str], ears.Heard]:
    """Plays a tune with abc2midi: (start, length, pitch) of each note, in ticks and MIDI pitches."""
    return ears.hear

"""Real tunes for the tests of this room."""

from pathlib import Path

import pytest

TUNES = (Path(__file__).parent / "tunes.abc").read_text(encoding="utf-8").split("\n\n")


@pytest.fixture(params=TUNES[:3], ids=["hornpipe", "jig", "air"])
def tune(request: pytest.FixtureRequest) -> str:
    """One tune after another, each long enough to be a song."""
    return str(request.param)


@pytest.fixture
def hornpipe() -> str:
    return TUNES[0]


@pytest.fixture
def short_tune() -> str:
    """A good tune of 9 notes: too short for a song."""
    return TUNES[3]

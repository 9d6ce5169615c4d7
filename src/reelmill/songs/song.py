"""A finished song, on its way to disk or back from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reelmill.songs.attempt import TIERS


@dataclass(frozen=True, kw_only=True)
class Song:
    """The facts of a song's ID.json and its MIDI; or ``failure`` says why there is no song of that id."""

    id: int
    facts: dict[str, Any] = field(default_factory=dict)
    midi: bytes = b""
    failure: str = ""
    tally: dict[str, int] = field(default_factory=dict)  # see ``empty_tally``


def empty_tally() -> dict[str, int]:
    """Attempts made, how many came to their end mark, and how many passed each tier."""
    return dict.fromkeys(("made", "ended", *TIERS), 0)

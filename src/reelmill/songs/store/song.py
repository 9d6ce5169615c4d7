"""A finished song, on its way to disk or back from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reelmill.notation.meter import plain_meter
from reelmill.songs.store.manifest import member_name
from reelmill.songs.store.tar import Member

if TYPE_CHECKING:
    from reelmill.songs.store.sound import Sound

TIERS = ("headers", "midi", "bars", "form")
"""What an attempt can pass, each tier judged by itself."""

TEXT_COLUMNS = {
    "id": "int64",
    "abc": "string",
    "attempts": "int32",
    "characters": "int32",
    "notes": "int32",
    "midi_seconds": "float64",
    "tempo_bpm": "float64",
    "headers": "bool",
    "midi": "bool",
    "bars": "bool",
    "form": "bool",
    "title": "string",
    "rhythm": "string",
    "meter": "string",
    "key": "string",
}
"""The keys of an ID.json of the text half, in order, and their Arrow types."""

SOUND_COLUMNS = {
    "duration_seconds": "float64",
    "spectral_centroid_hz": "float64",
    "loudness_dbfs": "float64",
}
"""What an ID.json of the audio half has beside them."""

_RENAMED = {"midi": "playable"}  # beside ``midi_file``, the bytes
TABLE_COLUMNS = {_RENAMED.get(name, name): kind for name, kind in TEXT_COLUMNS.items()}
"""The columns that ``open_songs`` and index.parquet make of them; see ``as_row``."""


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


def to_json(facts: dict[str, Any]) -> bytes:
    """The bytes of an ID.json."""
    return (json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n").encode()


def as_row(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of an ID.json as a table has them: its names say what they hold, C and 4/4 are one meter."""
    row = {_RENAMED.get(name, name): value for name, value in facts.items()}
    return {**row, "meter": plain_meter(row["meter"])}


def text_members(song: Song) -> list[Member]:
    """The members of a song's text half, in order; nothing for a failure."""
    if song.failure:
        return []
    name = member_name(song.id)
    return [
        (f"{name}.abc", (song.facts["abc"].encode(),)),
        (f"{name}.json", (to_json(song.facts),)),
        (f"{name}.mid", (song.midi,)),
    ]


def audio_members(song: Song, sound: Sound, extension: str) -> list[Member]:
    """The members of a song's audio half, in order; nothing for a failure."""
    if song.failure or sound.failure:
        return []
    name = member_name(song.id)
    return [
        (f"{name}.abc", (song.facts["abc"].encode(),)),
        (f"{name}.json", (to_json(sound.facts),)),
        (f"{name}{extension}", sound.pieces),
    ]

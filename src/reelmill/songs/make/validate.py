"""Validation of one attempt: the sampled text is brought through the four tiers, each by itself.

The result is a function of the text and the table of tempos, never of time: whoever validates it, wherever,
decides alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reelmill.audio.midi import Midi, abc_to_midi, midi_problem
from reelmill.music.form import form_problem
from reelmill.notation.bars import bars_problem
from reelmill.notation.header import header
from reelmill.notation.validity import headers_problem
from reelmill.songs.store.song import TIERS

REQUIREMENTS = ("none", *TIERS)

# A standard MIDI file of one empty track, so that a song that gave no MIDI still has all its members.
EMPTY_MIDI = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0"


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What an attempt turned out to be. Each tier says why the attempt failed it; "" means that it passed."""

    abc: str
    headers: str
    midi: str
    bars: str
    form: str
    encoding: str  # why the text cannot be a file; such a text is never a song
    data: bytes  # MIDI
    notes: int
    seconds: float
    tempo: float

    def reason(self, require: str) -> str:
        """Why the attempt is no song when ``require`` is asked for, which includes the tiers before it."""
        wanted = TIERS[: REQUIREMENTS.index(require)]
        return self.encoding or next((problem for tier in wanted if (problem := getattr(self, tier))), "")

    def passed(self) -> list[str]:
        """The tiers that the attempt passed."""
        return [tier for tier in TIERS if not getattr(self, tier)]

    def facts(self, song: int, attempts: int) -> dict[str, Any]:
        """The content of ID.json: fixed keys in a fixed order, no nulls, floats rounded (seconds, bpm)."""
        fields = header(self.abc)
        return {
            "id": song,
            "abc": self.abc,
            "attempts": attempts,
            "characters": len(self.abc),
            "notes": self.notes,
            "midi_seconds": round(self.seconds, 3),
            "tempo_bpm": round(self.tempo, 2),
            "headers": not self.headers,
            "midi": not self.midi,
            "bars": not self.bars,
            "form": not self.form,
            "title": fields.get("T", ""),
            "rhythm": fields.get("R", ""),
            "meter": fields.get("M", ""),
            "key": fields.get("K", ""),
        }


def validate(abc: str, ended: bool, max_length: int, tempos: Mapping[str, str] | None = None) -> Validated:
    """Validate a sampled text; ``ended``: whether it came to its end mark within ``max_length`` characters.
    ``tempos`` are ``audio.tempo``.

    Raises ToolError for a fault of the machine, which says nothing about the attempt.
    """
    encoding = _encoding_problem(abc)
    midi = Midi(b"", errors=[f"Error: {encoding}"]) if encoding else abc_to_midi(abc, tempos=tempos)
    return Validated(
        abc=abc,
        headers=_problem(headers_problem, abc) if ended else f"no end mark within {max_length} characters",
        midi=midi_problem(midi),
        bars=_problem(bars_problem, abc),
        form=_problem(form_problem, abc),
        encoding=encoding,
        data=midi.data or EMPTY_MIDI,
        notes=midi.notes,
        seconds=midi.seconds,
        tempo=midi.tempo,
    )


def _problem(check: Callable[[str], str], abc: str) -> str:
    # A model can write anything. What a check stumbles over is a property of the text, like any other reason.
    try:
        return check(abc)
    except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
        return f"cannot be read ({type(error).__name__})"


def _encoding_problem(abc: str) -> str:
    try:
        abc.encode()
    except UnicodeEncodeError:
        return "characters that UTF-8 cannot write"
    return ""

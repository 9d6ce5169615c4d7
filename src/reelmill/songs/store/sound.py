"""The sound of one song: MIDI in, the bytes of a sound file and its facts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reelmill.audio.encode import pieces
from reelmill.audio.features import features
from reelmill.audio.midi import LONGEST, Midi
from reelmill.audio.render import Renderer, Samples, SilentAudio
from reelmill.audio.settings import AudioSettings


class NoSound(Exception):
    """Why a song has no sound; a property of the song, the same wherever it is rendered."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """``pieces`` make a sound file, ``facts`` the ID.json beside it; ``failure``: why there is no sound."""

    pieces: tuple[bytes | memoryview, ...] = ()
    facts: dict[str, Any]
    failure: str = ""

    @property
    def data(self) -> bytes | memoryview:
        """The bytes of the file; empty if there is no sound."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


def record(facts: dict[str, Any], midi: bytes, renderer: Renderer, settings: AudioSettings) -> Sound:
    """The sound of a song. ``facts`` are its text half's; a function of the arguments alone."""
    try:
        samples = play(facts, midi, renderer)
    except NoSound as reason:
        return Sound(facts=facts, failure=str(reason))
    heard = features(samples, settings.sample_rate, Midi(midi, tempo=facts["tempo_bpm"]))
    return Sound(pieces=pieces(samples, settings), facts={**facts, **heard})


def play(facts: dict[str, Any], midi: bytes, renderer: Renderer) -> Samples:
    """Render a song to samples [time, channels], int16. ``facts`` are its text half's.

    Raises NoSound for a song that cannot be heard (possible only where ``songs.require`` asks for less than
    ``midi``) and for a silent one.
    """
    if not facts["notes"]:
        raise NoSound("no notes")
    if not 0 < facts["midi_seconds"] <= LONGEST:
        raise NoSound(f"longer than {LONGEST:.0f} seconds")
    try:
        return renderer.render(midi)
    except SilentAudio:
        raise NoSound("silent") from None
    except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        # What a synthesizer stumbles over is a property of the MIDI, like a text that cannot be read.
        raise NoSound(f"cannot be played ({type(error).__name__})") from None

"""Settings of audio rendering."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from reelmill.audio.instruments import NAMES, instrument_name
from reelmill.audio.tempo import TEMPOS, with_usual
from reelmill.settings import STRICT


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """The defaults are CD quality: 44.1 kHz, 16 bits, stereo. ``tempo`` decides the MIDI, too."""

    backend: Literal["symusic", "timidity", "fluidsynth"] = "symusic"
    soundfont: str = ""  # path of an .sf2 file; empty: the one that set-up fetched
    sample_rate: Annotated[int, Field(ge=8000, le=96000)] = 44100  # hertz
    channels: Literal[1, 2] = 2
    format: Literal["wav", "flac"] = "wav"
    # By rhythm, else by meter, where a tune has no Q:; what is given stands in place of the usual.
    tempo: Annotated[dict[str, str], BeforeValidator(with_usual)] = field(
        default_factory=lambda: dict(TEMPOS)
    )
    instrument: Annotated[str, BeforeValidator(instrument_name)] = NAMES[0]  # of General MIDI, or its number

    __pydantic_config__ = STRICT

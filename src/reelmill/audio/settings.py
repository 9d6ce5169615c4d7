"""Settings of audio rendering."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from reelmill.settings import STRICT


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """The defaults are CD quality: 44.1 kHz, 16 bits, stereo."""

    backend: Literal["symusic", "timidity", "fluidsynth"] = "symusic"
    soundfont: str = ""  # path of an .sf2 file; empty: the one that set-up fetched
    sample_rate: Annotated[int, Field(ge=8000, le=96000)] = 44100  # hertz
    channels: Literal[1, 2] = 2
    format: Literal["wav", "flac"] = "wav"

    __pydantic_config__ = STRICT

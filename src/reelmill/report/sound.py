"""Audio small enough to stand inside a page: mono MP3, which every browser plays."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from reelmill.audio.encode import listening_copy

LONGEST = 90  # seconds of a song in a page
_FADE = 2  # seconds at the end of a song that is cut


@dataclass(frozen=True)
class Clip:
    """Encoded audio for a page; ``seconds`` is the length of the whole song, even if the clip is cut."""

    data: bytes
    type: str
    seconds: float

    @property
    def cut(self) -> bool:
        """Whether the clip is only the start of the song."""
        return self.seconds > LONGEST


def clip(audio: bytes) -> Clip:
    """Encode a WAV, FLAC or Opus file for a page. Raises soundfile.LibsndfileError if it is not one."""
    samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    seconds = len(samples) / rate
    samples = samples[: LONGEST * rate]
    if seconds > LONGEST:
        samples[-_FADE * rate :] *= np.linspace(1, 0, _FADE * rate, dtype=np.float32)[:, np.newaxis]
    return Clip(*listening_copy(samples, rate), seconds)

"""Audio small enough to stand inside a page: mono MP3, which every browser plays."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import gcd

import numpy as np
import soundfile
from scipy.signal import resample_poly

LONGEST = 90  # seconds of a song in a page
_RATE = 24000  # hertz
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
    mono = samples[: LONGEST * rate].mean(axis=1)
    if seconds > LONGEST:
        mono[-_FADE * rate :] *= np.linspace(1, 0, _FADE * rate, dtype=np.float32)
    if rate > _RATE:
        common = gcd(rate, _RATE)
        mono = resample_poly(mono, _RATE // common, rate // common).astype(np.float32)
        rate = _RATE
    mono *= 0.98 / max(0.98, float(np.abs(mono).max(initial=0)))
    file = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(file, mono, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
        return Clip(file.getvalue(), "audio/mpeg", seconds)
    soundfile.write(file, mono, rate, format="FLAC")  # libsndfile before 1.1
    return Clip(file.getvalue(), "audio/flac", seconds)

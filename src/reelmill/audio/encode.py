"""Samples to the bytes of an audio file, and back. The same samples give the same bytes."""

from __future__ import annotations

import io
import wave
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from reelmill.audio.settings import AudioSettings

_LISTENING_RATE = 24000  # hertz


def encode(samples: NDArray[np.int16], settings: AudioSettings) -> bytes:
    """A 16-bit WAV or FLAC file of ``samples`` [time, channels] at ``settings.sample_rate``.

    WAV bytes depend on the samples alone, FLAC bytes on the version of libFLAC too (``version``).
    """
    return b"".join(pieces(samples, settings))


def pieces(samples: NDArray[np.int16], settings: AudioSettings) -> tuple[bytes | memoryview, ...]:
    """The same in pieces, for who writes them one after the other: a WAV's samples are not copied."""
    buffer = io.BytesIO()
    if settings.format == "flac":
        soundfile.write(buffer, samples, settings.sample_rate, format="FLAC", subtype="PCM_16")
        return (buffer.getvalue(),)
    with wave.open(buffer, "wb") as file:
        file.setparams((samples.shape[1], 2, settings.sample_rate, len(samples), "NONE", ""))
        file.writeframesraw(b"")
        header = buffer.getvalue()  # before closing, which would note that no samples followed
    return header, np.ascontiguousarray(samples, "<i2").data.cast("B")


def listening_copy(samples: NDArray[np.int16] | NDArray[np.float32], rate: int) -> tuple[bytes, str]:
    """``samples`` [time, channels] at ``rate`` hertz as a small mono file for a page, and its media type.

    MP3, which every browser plays.
    """
    mono = samples.mean(axis=1, dtype=np.float32)
    if samples.dtype == np.int16:
        mono /= 32768
    if rate > _LISTENING_RATE:
        from scipy.signal import resample_poly  # takes longer to import than all else that sound needs

        common = gcd(rate, _LISTENING_RATE)
        mono = resample_poly(mono, _LISTENING_RATE // common, rate // common).astype(np.float32)
        rate = _LISTENING_RATE
    mono *= 0.98 / max(0.98, float(np.abs(mono).max(initial=0)))
    file = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        soundfile.write(file, mono, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
        return file.getvalue(), "audio/mpeg"
    soundfile.write(file, mono, rate, format="FLAC")  # libsndfile before 1.1
    return file.getvalue(), "audio/flac"


def decode(audio: bytes | Path) -> tuple[NDArray[np.int16], int]:
    """Samples [time, channels], int16, and the sample rate in hertz of an audio file or its bytes.

    Raises ValueError if it is not one.
    """
    try:
        source = io.BytesIO(audio) if isinstance(audio, bytes) else audio
        samples, rate = soundfile.read(source, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not an audio file: {error}") from None
    return samples, rate


def extension(settings: AudioSettings) -> str:
    """``.wav`` or ``.flac``."""
    return f".{settings.format}"


def version() -> str:
    """What writes the files, for example ``libsndfile 1.2.2``; it carries libFLAC."""
    return f"libsndfile {soundfile.__libsndfile_version__}, soundfile {soundfile.__version__}"

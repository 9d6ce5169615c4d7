"""What a person hears first, in numbers: how long, how fast, how bright, how loud.

All sums are of float64, so that processors that order them otherwise differ far below the last digit kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from reelmill.audio.midi import Midi
from reelmill.audio.pcm import energy
from reelmill.audio.tempo import usual

FAST_BEATS = 110.0  # a minute: reels and jigs are danced faster, hornpipes and airs slower
BRIGHT_HZ = 1190.0  # the median of 119 real tunes (of both named corpora) as the default renderer plays them
MOST_FRAMES = 128  # of the spectral centroid, spread evenly over a song
_FRAME_SECONDS = 0.046  # 2048 samples at 44.1 kHz


def features(samples: NDArray[np.int16], sample_rate: int, midi: Midi) -> dict[str, float]:
    """Features of a rendered song, ``samples`` [time, channels], rounded to what is reproducible.

    ``duration_seconds``: of the audio. ``tempo_bpm``: quarters a minute of its MIDI, the mean over the song.
    ``spectral_centroid_hz``: see ``spectral_centroid``.
    ``loudness_dbfs``: root mean square of all samples, 0 being full scale; at least -120.
    """
    return {
        "duration_seconds": round(len(samples) / sample_rate, 3),
        "tempo_bpm": round(midi.tempo, 2),
        "spectral_centroid_hz": round(spectral_centroid(samples, sample_rate), 1),
        "loudness_dbfs": round(loudness(samples), 2),
    }


def labels(features: dict[str, Any]) -> tuple[str, str]:
    """``("fast" | "slow", "bright" | "warm")``. What is counted for the first are the beats of the song's
    ``rhythm``, else of its ``meter``: halves of a reel, dotted quarters of a jig.
    """
    beat, _ = usual(features.get("rhythm", ""), features.get("meter", ""))
    return (
        "fast" if features["tempo_bpm"] / (4 * beat) >= FAST_BEATS else "slow",
        "bright" if features["spectral_centroid_hz"] >= BRIGHT_HZ else "warm",
    )


def spectral_centroid(samples: NDArray[np.int16], sample_rate: int) -> float:
    """The mean frequency in hertz, weighted by magnitude, of frames that are weighted by their energy.

    Hann windows of about 46 ms (a power of two samples) of the mean of the channels; at most ``MOST_FRAMES``
    of them, evenly spaced, because all of them change a song's mean by about half a per cent. 0 for silence.
    """
    size = 1 << round(math.log2(_FRAME_SECONDS * sample_rate))
    if len(samples) < size:
        samples = np.pad(samples, ((0, size - len(samples)), (0, 0)))
    count = min(MOST_FRAMES, len(samples) // size)
    frames = np.zeros((count, size))
    for frame, start in zip(frames, np.linspace(0, len(samples) - size, count).astype(np.int64), strict=True):
        for channel in range(samples.shape[1]):
            frame += samples[start : start + size, channel]
    frames *= np.hanning(size)
    magnitudes = np.abs(scipy.fft.rfft(frames, axis=1))
    frequencies = scipy.fft.rfftfreq(size, 1 / sample_rate)
    totals = magnitudes.sum(axis=1)
    energies = np.square(magnitudes).sum(axis=1)
    if not energies.any():
        return 0.0
    centroids = magnitudes @ frequencies / np.where(totals, totals, 1.0)
    return float(centroids @ energies / energies.sum())


def loudness(samples: NDArray[np.int16]) -> float:
    """Root mean square of all samples in decibels of full scale; -120 if they are silent."""
    total = energy(samples)
    return max(10 * math.log10(total / samples.size / 32768**2), -120.0) if total else -120.0

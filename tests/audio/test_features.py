"""Features are what they are by definition, on sounds whose features are known."""

import numpy as np
import pytest

from reelmill.audio.features import features, labels, loudness, spectral_centroid
from reelmill.audio.midi import Midi


def sine(frequency: float, amplitude: float, rate: int = 44100, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    wave = np.rint(amplitude * 32768 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)
    return np.stack([wave, wave], axis=1)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize("frequency", [440.0, 2000.0])
def test_the_centroid_of_a_sine_is_its_frequency(frequency: float, rate: int) -> None:
    assert spectral_centroid(sine(frequency, 0.5, rate), rate) == pytest.approx(frequency, rel=0.03)


def test_loud_frames_count_and_silent_ones_do_not() -> None:
    low, high = sine(500, 0.5), sine(3000, 0.05)
    mixed = np.concatenate([low, high, low * 0])
    assert spectral_centroid(mixed, 44100) == pytest.approx(500, rel=0.1)


def test_loudness_of_a_full_sine_is_three_decibels_below_full_scale() -> None:
    assert loudness(sine(1000, 0.9999)) == pytest.approx(-3.01, abs=0.01)
    assert loudness(sine(1000, 0.09999)) == pytest.approx(-23.01, abs=0.01)


def test_silence_and_less_than_a_frame_have_features() -> None:
    midi = Midi(b"", seconds=1.0, tempo=120.0)
    silent = features(np.zeros((44100, 2), np.int16), 44100, midi)
    assert silent["loudness_dbfs"] == -120 and silent["spectral_centroid_hz"] == 0
    short = features(sine(1000, 0.5, seconds=0.01), 44100, midi)
    assert short["duration_seconds"] == 0.01 and short["spectral_centroid_hz"] > 0


def test_labels_are_told_from_tempo_and_centroid() -> None:
    assert labels({"tempo_bpm": 180.0, "spectral_centroid_hz": 3000.0}) == ("fast", "bright")
    assert labels({"tempo_bpm": 80.0, "spectral_centroid_hz": 500.0}) == ("slow", "warm")


@pytest.mark.parametrize(
    ("rhythm", "meter", "tempo", "label"),
    [
        ("reel", "C|", 224.0, "fast"),
        ("reel", "2/4", 112.0, "fast"),
        ("reel", "C|", 120.0, "slow"),
        ("hornpipe", "C", 184.0, "slow"),
        ("jig", "6/8", 180.0, "fast"),
        ("", "6/8", 120.0, "slow"),
        ("slow air", "3/4", 66.0, "slow"),
    ],
)
def test_what_is_fast_is_told_by_the_beats_of_its_rhythm(
    rhythm: str, meter: str, tempo: float, label: str
) -> None:
    song = {"rhythm": rhythm, "meter": meter, "tempo_bpm": tempo, "spectral_centroid_hz": 500.0}
    assert labels(song)[0] == label

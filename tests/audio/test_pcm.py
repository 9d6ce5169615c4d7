"""The passes over samples, beside NumPy's."""

import numpy as np
import pytest

from reelmill.audio.pcm import energy, peak, to_integers


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 95, 100_000])
def test_the_peak_is_the_largest_magnitude_wherever_it_is(count: int) -> None:
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    assert peak(samples) == (np.abs(samples).max() if count else 0.0)
    for place in {0, count // 2, count - 1} if count else ():
        for value in (0.75, -0.75):
            changed = samples.copy()
            changed[place] = value
            assert peak(changed) == 0.75


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
@pytest.mark.parametrize("place", [0, 40, 99])
def test_what_is_no_number_is_infinite(value: float, place: int) -> None:
    samples = np.zeros((50, 2), np.float32)
    samples.reshape(-1)[place] = value
    assert peak(samples) == np.inf


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 95, 100_001])
def test_integers_are_those_of_numpy(count: int) -> None:
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    samples[: count // 4] = np.round(samples[: count // 4] * 1000) / 1000 + 0.0005  # halves, at this scale
    result = np.full(count, 7, np.int16)
    to_integers(samples, 32000.0, result)
    assert np.array_equal(result, np.rint(samples * np.float32(32000)).astype(np.int16))


def test_halves_go_to_the_even_one() -> None:
    samples = np.arange(-40, 41, dtype=np.float32) / 2
    result = np.empty(81, np.int16)
    to_integers(samples, 1.0, result)
    assert np.array_equal(result, np.rint(samples).astype(np.int16))


def test_nothing_beyond_the_end_is_written() -> None:
    room = np.full(64 + 33, 7, np.int16)
    to_integers(np.ones(33, np.float32), 3.0, room[:33])
    assert (room[:33] == 3).all() and (room[33:] == 7).all()


def test_the_energy_is_the_exact_sum_of_squares():
    samples = np.random.default_rng(1).integers(-32768, 32768, (100_003, 2), dtype=np.int16)
    assert energy(samples) == sum(int(value) ** 2 for value in samples.reshape(-1).tolist())
    assert energy(samples[::2, :1]) == sum(int(value) ** 2 for value in samples[::2, 0].tolist())
    assert energy(np.full((1000, 2), -32768, dtype=np.int16)) == 2000 * 32768**2
    assert energy(np.zeros((0, 2), dtype=np.int16)) == 0

"""What is foretold of a plan is what it comes to."""

from pathlib import Path

import pytest

from reelmill.songs.collect import collect
from reelmill.songs.estimate import estimate
from tests.songs.conftest import SONGS


def test_disk_attempts_and_length_are_foretold(run: Path, songs: Path, tmp_path: Path) -> None:
    foretold = estimate(run, tmp_path / "not" / "yet", SONGS, sample=24)
    summary = collect(songs)
    # Each tar is filled up to 10 KiB, which matters only for shards as small as these.
    assert foretold.text_bytes == pytest.approx(summary["bytes"]["text"], rel=0.3)
    assert foretold.audio_bytes == pytest.approx(summary["bytes"]["audio"], rel=0.1)
    assert foretold.characters == pytest.approx(summary["distributions"]["characters"]["mean"], rel=0.1)
    assert foretold.attempts_per_song == pytest.approx(summary["attempts"]["made"] / SONGS, rel=0.2)
    assert foretold.fits and "are free" in foretold.describe()
    assert not list(tmp_path.glob("not*"))


def test_failures_and_a_small_disk_are_foretold(run: Path, tmp_path: Path) -> None:
    overrides = ["songs.max_attempts=1", "songs.require=bars", "audio.sample_rate=96000", "audio.channels=2"]
    foretold = estimate(run, tmp_path, 10**9, overrides)
    assert foretold.failures > 10**6 and not foretold.fits
    assert "will have no song" in foretold.describe() and "does not fit" in foretold.describe()

"""The soundfont that is used is the one asked for, intact, and its absence is explained."""

import zipfile
from pathlib import Path

import pytest

from reelmill.audio import soundfont as room
from reelmill.audio.settings import AudioSettings
from reelmill.errors import DamagedError, RequestError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(room, "_SYSTEM", ())
    return tmp_path


def test_a_missing_soundfont_says_what_to_do(empty_cache: Path) -> None:
    with pytest.raises(RequestError, match="make setup"):
        room.soundfont(AudioSettings())


def test_a_path_that_is_no_soundfont_is_refused_by_its_key(empty_cache: Path) -> None:
    with pytest.raises(RequestError, match=r"audio\.soundfont.*no such file"):
        room.soundfont(AudioSettings(soundfont=str(empty_cache / "none.sf2")))
    other = empty_cache / "other.sf2"
    other.write_bytes(b"something else")
    with pytest.raises(RequestError, match=r"audio\.soundfont.*not a SoundFont"):
        room.soundfont(AudioSettings(soundfont=str(other)))


def test_a_package_with_another_soundfont_is_refused_and_leaves_nothing(empty_cache: Path) -> None:
    wheel = empty_cache / "pretty_midi.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pretty_midi/TimGM6mb.sf2", b"RIFF....sfbk")
    with pytest.raises(DamagedError, match="SHA-256"):
        room.fetch(wheel)
    wheel.write_bytes(b"no archive")
    with pytest.raises(DamagedError):
        room.fetch(wheel)
    assert not list((empty_cache / "cache").rglob("*.sf2"))

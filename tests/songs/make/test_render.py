"""Plain ABC files become sound."""

from pathlib import Path

import pytest

from reelmill.audio.midi import Midi, abc_to_midi
from reelmill.audio.settings import AudioSettings
from reelmill.errors import RequestError
from reelmill.songs.make.render import render_abc, render_files
from tests.audio.sound import audio_problem

REEL = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|GABG d2BG|dcBA G4:|\n"
WALTZ = "X:2\nT:Café\nM:3/4\nL:1/4\nK:D\nD F A|d2 A|F A d|D3|]\n"
SOUND = AudioSettings(sample_rate=8000, channels=1)


def heard(tune: str) -> Midi:
    """Its MIDI at the tempo that it is rendered with."""
    return abc_to_midi(tune, tempos=SOUND.tempo)


def test_a_file_and_a_book(tmp_path: Path) -> None:
    (tmp_path / "reel.abc").write_text(REEL)
    (tmp_path / "book.abc").write_bytes(f"{REEL}\n{WALTZ}\nX:3\nT:Nothing\nK:C\n".encode("latin-1"))
    out = tmp_path / "sound"
    made = list(render_files([tmp_path / "reel.abc", tmp_path / "book.abc"], out, SOUND))
    assert [one.path for one in made] == [
        out / f"{name}.wav" for name in ("reel", "book-1", "book-2", "book-3")
    ]
    for one, tune in zip(made, [REEL, REEL, WALTZ], strict=False):
        assert one.problem == "" and audio_problem(one.path, heard(tune).seconds) == ""
    assert (out / "reel.wav").read_bytes() == (out / "book-1.wav").read_bytes()
    assert "no tune" in made[3].problem and not made[3].path.exists()


def test_beside_the_file_and_as_flac(tmp_path: Path) -> None:
    (tmp_path / "reel.abc").write_text(REEL)
    flac = AudioSettings(sample_rate=8000, channels=2, format="flac")
    (made,) = render_files([tmp_path / "reel.abc"], None, flac)
    assert made.path == tmp_path / "reel.flac" and made.path.read_bytes()[:4] == b"fLaC"


def test_a_recording_is_saved_as_its_name_says(tmp_path: Path) -> None:
    recording = render_abc(REEL, SOUND)
    seconds = 32 * 60 / 208 + 1  # 32 quarters, and a second in which the last note rings
    assert recording.samples.shape == (round(seconds * 8000), 1)
    assert recording.seconds == pytest.approx(seconds, abs=1e-3)
    for name, start in [("a.wav", b"RIFF"), ("a.flac", b"fLaC")]:
        recording.save(tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] == start


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "prose.abc").write_text("Once upon a time\n")
    with pytest.raises(RequestError, match=r"missing\.abc: no such file"):
        list(render_files([tmp_path / "missing.abc"], None, SOUND))
    with pytest.raises(RequestError, match=r"prose\.abc: no tune in it"):
        list(render_files([tmp_path / "prose.abc"], None, SOUND))
    with pytest.raises(RequestError, match="no tune"):
        render_abc("X:1\nK:C\n", SOUND)

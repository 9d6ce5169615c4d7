"""The README's ten lines of Python run as they stand, and make the songs that the command makes."""

import re
from pathlib import Path

import pytest

import reelmill
from reelmill.errors import RequestError
from reelmill.songs.store.tar import TarReader
from tests.songs.conftest import SETTINGS

README = Path(__file__).parents[2] / "README.md"
TUNE = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|G4 e2dB|BAGB gfed:|\n"


def test_the_ten_lines_of_the_readme(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = re.search(r"```python\n(import reelmill\n.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    (tmp_path / "tunes.abc").write_text("\n".join(TUNE.replace("G4", f"G{n}") for n in range(1, 5)))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(run)
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block[1].replace('"irish"', '"tunes.abc"'), str(README), "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "K:G" in printed and "duration_seconds" in printed
    assert (tmp_path / "song.wav").stat().st_size > 100_000


def test_sample_songs_makes_the_songs_of_the_command(run: Path, reference: Path) -> None:
    sampling = {key: value for key, value in SETTINGS["sampling"].items() if key != "slots"}
    songs = reelmill.sample_songs(reelmill.load_model(run), 5, **sampling)
    tar = TarReader(reference / "text" / "shard-000000.tar")
    made = {name: data.decode() for name, data in tar if name.endswith(".abc")}
    assert songs == [made[f"{song:09d}.abc"] for song in range(5)]
    assert reelmill.sample_songs(reelmill.load_model(reference), 2, **sampling) == songs[:2]


def test_a_requirement_that_there_is_none_of(run: Path) -> None:
    with pytest.raises(RequestError, match="require 'bar'; did you mean 'bars'"):
        reelmill.sample_songs(reelmill.load_model(run), 1, require="bar")


def test_a_model_that_cannot_is_said_to(run: Path) -> None:
    with pytest.raises(RequestError, match="none of 2 attempts is valid"):
        reelmill.sample_songs(reelmill.load_model(run), 1, max_attempts=2, max_length=10)

"""What songs begin with: header fields or a text, and what is refused before anything is made."""

from pathlib import Path

import pytest

from reelmill import load_model, open_songs, sample_songs
from reelmill.cli import main
from reelmill.cluster.generate import overnight
from reelmill.cluster.preflight.songs_request import Songs
from reelmill.config import from_dict
from reelmill.errors import RequestError
from reelmill.songs.store.plan import plan_path

GENERATE = ["--songs", "8", "--no-audio"]


def test_header_fields_are_written_as_the_model_knows_them(run: Path, tmp_path: Path) -> None:
    fields = ["--key", "G major", "--meter", " 4/4", "--title", "Reel"]
    assert main(["generate", str(run), "--out", str(tmp_path / "a"), *GENERATE, *fields]) == 0
    recipe = 'songs.prompts=[{"title": Reel, "meter": 4/4, "key": G}, {"title": Reel}]'
    assert main(["generate", str(run), "--out", str(tmp_path / "b"), *GENERATE, recipe]) == 0
    whole = "\nT:Reel\nM:4/4\nL:1/8\nK:G\n"
    for song in open_songs(tmp_path / "a", audio=False):
        assert song["abc"].startswith(f"X:{song['id']}{whole}")
    for song in open_songs(tmp_path / "b", audio=False):
        assert song["abc"].startswith(f"X:{song['id']}{whole if song['id'] % 2 == 0 else whole[:8]}")
    assert main(["generate", str(run), "--out", str(tmp_path / "b"), *GENERATE, recipe]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", r"M:6/8\nK:Ddor\n"], "begins with 'M:6/8\\nK:Ddor\\n': no X field first"),
        (["--prompt", r"X:1\nT:Reel\n\n"], "a blank line within"),
        (["--prompt", r"X:1\nM:4/4\nK:H\n"], "unknown key"),
        (["--prompt", r"X:1\nK:G\nX:2\n"], "a second X field"),
        (["--prompt", "M:4/4"], "no X field first"),
        (["--prompt", r"X:1\n", "--meter", "4/4"], "--meter has no place beside it"),
        (["--meter", "4/5"], "meter '4/5': malformed meter"),
        (["--key", "G"], "give a meter, too"),
        (["--meter", "4/4", "--key", "H"], "key 'H': unknown key"),
        (["--rhythm", "jig"], "the character 'j' is not in the vocabulary"),
        (["songs.prompts=[{metre: 4/4}]"], "there is no 'metre'; did you mean 'meter'?"),
    ],
)
def test_what_can_begin_no_song_is_refused_at_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "songs"
    assert main(["generate", str(run), "--out", str(out), *GENERATE, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not plan_path(out).exists()


@pytest.mark.parametrize("prompt", ["", "X", "X:12", "X:1\nT:Re", "X:1\nM:4/4\nL:1/8\nK:G\n|:GABG"])
def test_what_may_still_become_a_tune_is_not_refused(run: Path, prompt: str) -> None:
    assert sample_songs(load_model(run), 1, prompt=prompt, require="headers", max_length=200)


def test_python_and_a_whole_night_refuse_it_too(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no valid tune begins with"):
        sample_songs(load_model(run), 1, prompt="M:4/4\n")
    night = from_dict({"songs": {"prompts": ["K:G\n"]}}, "the test")
    with pytest.raises(RequestError, match="no valid tune begins with"):
        overnight(night, Songs(tmp_path / "run", tmp_path / "songs", 8, 1), {})
    assert not (tmp_path / "run").exists()


def test_whoever_asks_for_no_tune_may_begin_with_anything(run: Path, tmp_path: Path) -> None:
    anything = ["--prompt", "GABG", "songs.require=none"]
    assert main(["generate", str(run), "--out", str(tmp_path / "songs"), *GENERATE, *anything]) == 0

"""A tune is as fast as its Q: says, else as its rhythm is danced, else as its meter suggests."""

from pathlib import Path

import pytest

from reelmill.audio.midi import abc_to_midi
from reelmill.audio.settings import AudioSettings
from reelmill.cli import main
from reelmill.config import load
from reelmill.errors import RequestError
from reelmill.songs.make.render import render_abc

USUAL = AudioSettings().tempo
BARS = {
    "C": "GABG d2BG|ABcA dcBA|GABG d2BG|dcBA G4|",
    "2/4": "G/A/B/G/ dB/G/|A/B/c/A/ d/c/B/A/|G/A/B/G/ dB/G/|d/c/B/A/ G2|",
    "3/4": "G2 B2 d2|d2 B2 G2|GABcde|G4 G2|G2 B2 d2|",
    "6/8": "GAB dBG|ABc dcB|GAB dBG|dcB G3|",
    "9/8": "GAB dBG GAB|ABc dcB ABc|GAB dBG G3|",
}


def tune(meter: str, rhythm: str = "", header: str = "", body: str = "") -> str:
    music = body or next(
        bars for name, bars in BARS.items() if name == meter.replace("|", "").replace("4/4", "C")
    )
    return f"X:1\nT:A\nR:{rhythm}\nM:{meter}\nL:1/8\n{header}K:G\n{music}\n"


@pytest.mark.parametrize(
    ("meter", "rhythm", "quarters"),
    [
        ("C|", "reel", 224),
        ("4/4", "Reel", 224),
        ("2/4", "reel", 112),
        ("C", "hornpipe", 184),
        ("6/8", "double jig", 180),
        ("9/8", "slipjig", 180),
        ("9/8", "slip jig", 180),
        ("6/8", "slide", 198),
        ("2/4", "polka", 132),
        ("C", "strathspey", 116),
        ("C", "march", 118),
        ("6/8", "march", 177),
        ("3/4", "waltz", 120),
        ("3/4", "slow air", 66),
        ("C|", "", 208),
        ("6/8", "something", 180),
        ("3/4", "", 100),
    ],
)
def test_tempo_by_rhythm_else_by_meter(meter: str, rhythm: str, quarters: float) -> None:
    midi = abc_to_midi(tune(meter, rhythm), tempos=USUAL)
    assert not midi.errors and midi.tempo == pytest.approx(quarters, abs=0.1)
    assert midi.seconds == pytest.approx(abc_to_midi(tune(meter, rhythm)).seconds * 120 / quarters, rel=0.01)


@pytest.mark.parametrize(
    ("header", "body", "quarters"),
    [
        ("Q:1/4=80\n", "", 80),
        ("Q:1/2=50\n", "", 100),
        ('Q:"Slow" 3/8=40\n', "", 60),
        ("Q:Allegro\n", "", 224),
        ("", "[Q:1/4=90]" + BARS["C"], 90),
    ],
)
def test_what_a_tune_says_wins(header: str, body: str, quarters: float) -> None:
    midi = abc_to_midi(tune("C", "reel", header, body), tempos=USUAL)
    assert midi.tempo == pytest.approx(quarters, rel=0.01)


def test_a_recipe_changes_one_rhythm_and_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("audio:\n  tempo: {reel: 1/2=90, musette: 1/4=200}\n")
    settings = load(tmp_path / "a.yaml", ["audio.sample_rate=8000"]).audio
    for meter, rhythm, quarters in (("C", "reel", 180), ("C", "musette", 200), ("6/8", "jig", 180)):
        assert render_abc(tune(meter, rhythm), settings).features["tempo_bpm"] == pytest.approx(
            quarters, abs=0.1
        )
    with pytest.raises(RequestError, match=r"audio\.tempo should give rhythms or meters a tempo"):
        load(None, ["audio.tempo={reel: fast}"])


def test_the_command_plays_a_reel_as_it_is_danced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reel.abc").write_text(tune("C", "reel"))
    sound = ["audio.sample_rate=8000", "audio.instrument=flute"]
    assert main(["render", str(tmp_path / "reel.abc"), *sound]) == 0
    assert capsys.readouterr().out.endswith("reel.wav: 5.3 s\n")  # 32 eighths and a second in which it rings

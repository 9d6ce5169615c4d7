"""Pass rates of attempts stand beside those of the tunes the model was trained on."""

import shutil
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.corpus.build import load_or_build
from reelmill.corpus.settings import CorpusSettings
from reelmill.model import TrainedModel
from reelmill.songs.make.generate import generate
from reelmill.songs.make.reference import FILE, measure_tunes
from reelmill.songs.results.collect import collect
from tests.songs.conftest import SETTINGS, write_run

GOOD = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|G4 e2dB|BAGB gfed:|\n"
SHORT_BAR = GOOD.replace("ABcA dcBA", "ABcA dcB")


def test_each_tier_is_a_rate_of_its_own() -> None:
    measured = measure_tunes([GOOD, GOOD, SHORT_BAR, "X:1\nK:G\n"])
    assert measured["tunes"] == 4
    assert measured["pass_rate"] == {"headers": 0.75, "midi": 0.75, "bars": 0.5, "form": 0.0}
    assert measured["characters"] == pytest.approx((2 * len(GOOD) + len(SHORT_BAR) + 8) / 4, abs=0.5)
    assert measured["seconds"] > 5


def test_they_are_collected(tmp_path: Path, model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tunes.abc").write_text("\n".join([GOOD, *(GOOD.replace("e2", c * 2) for c in "abcdf")]))
    source = str(tmp_path / "tunes.abc")
    load_or_build(CorpusSettings(source=source))
    run = write_run(tmp_path / "run", model, {**SETTINGS, "corpus": {"source": source}})
    generate(run, tmp_path / "songs", songs=2, audio=False, progress=False)
    assert collect(tmp_path / "songs")["training_tunes"]["pass_rate"]["midi"] == 1.0
    assert durable.read_json(tmp_path / "songs" / FILE)["pass_rate"]["bars"] == 1.0
    shutil.rmtree(run)  # and again where the run is gone
    assert collect(tmp_path / "songs")["training_tunes"]["pass_rate"]["midi"] == 1.0


def test_songs_are_made_without_a_corpus_too(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "empty"))
    assert generate(run, tmp_path / "songs", songs=1, audio=False, progress=False).complete
    assert not (tmp_path / "songs" / FILE).exists()
    assert collect(tmp_path / "songs")["training_tunes"] is None

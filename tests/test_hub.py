"""``reelmill push``: the folder that the hub gets is a model that everything takes, with a card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from huggingface_hub import ModelCard

import reelmill
from reelmill.cli import main
from reelmill.runs import load_model
from tests.local_hub import LocalHub, local_hub

TUNES = "\n".join(
    f"X:{number}\nT:No. {number}\nM:4/4\nL:1/8\nK:D\n" + "DEFG ABcd|d2cB A2GF|" * (1 + number % 5) + "]\n"
    for number in range(60)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    (place / "book.abc").write_text(TUNES)
    settings = [
        f"corpus.source={place / 'book.abc'}", f"corpus.directory={place / 'corpus'}",
        "corpus.similarity=1.0", "corpus.test_fraction=0.2", "model.embedding_size=8", "model.hidden_size=32",
        "training.steps=4", "training.checkpoint_every=2", "training.batch_size=4",
        "training.sequence_length=32", "tracking.comet=false", "sampling.max_length=80",
        "audio.sample_rate=8000",
    ]  # fmt: skip
    assert reelmill.train(reelmill.load_config(None, settings), place / "run").finished
    return place / "run"


@pytest.fixture
def folder(run: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["push", str(run), "somebody/reels", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["url"] == "" and said["files"] == {
        path.name: path.stat().st_size for path in Path(said["folder"]).iterdir()
    }
    return Path(said["folder"])


def test_the_card_names_licence_corpus_and_soundfont(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    card.data.to_dict()
    assert card.data.license == "other" and card.data.library_name == "reelmill"
    for said in ("# reels", "MIT licence", "`book.abc`", "TimGM6mb.sf2", "held-out tunes", "somebody/reels"):
        assert said in card.text, said
    assert str(folder.parents[1]) not in card.text  # no path of this machine


def test_the_folder_is_a_model_elsewhere(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = folder.rename(tmp_path / "downloaded")
    weights, expected = (
        load.network.state_dict() for load in (reelmill.load_model(elsewhere), load_model(run))
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)

    asked = ["--songs", "4", "--no-audio", "songs.require=none"]
    for source, out in ((elsewhere, "one"), (run, "two")):
        assert main(["generate", str(source), "--out", str(tmp_path / out), *asked]) == 0
        assert main(["collect", str(tmp_path / out), "tracking.comet=false"]) == 0
    one, two = (pandas.read_parquet(tmp_path / out / "index.parquet") for out in ("one", "two"))
    assert one.equals(two)
    capsys.readouterr()
    assert main(["generate", str(elsewhere), "--out", str(tmp_path / "x"), "--checkpoint", "7", *asked]) == 2
    assert "it has step-000004 alone" in capsys.readouterr().err
    assert main(["evaluate", str(elsewhere), "--abc", str(run.parent / "book.abc"), "--json"]) == 0


def test_what_cannot_be_pushed_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["push", str(run), "a//b"]) == 2 and "a//b" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "nothing"), "a/b"]) == 2
    capsys.readouterr()
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # as all tests have it
    assert main(["push", str(run), "a/b"]) == 1
    assert "a/b: the hub cannot be reached" in capsys.readouterr().err


def command(hub: LocalHub, home: Path, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, with ``arguments``, for which ``hub`` is the hub."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_what_is_pushed_comes_back(run: Path, tmp_path: Path) -> None:
    push = ("-m", "reelmill", "push", str(run), "somebody/reels")
    fetch = (
        "import huggingface_hub, reelmill\n"
        "model = reelmill.load_model(huggingface_hub.snapshot_download('somebody/reels'))\n"
        "print(len(reelmill.sample_songs(model, 3, require='none', max_length=40)))"
    )
    with local_hub() as hub:
        refused = command(hub, tmp_path, "hf_wrong", *push)
        assert refused.returncode == 2 and "somebody/reels: the hub refused it" in refused.stderr
        assert len(refused.stderr.splitlines()) <= 2 and not hub.files
        done = command(hub, tmp_path, "hf_right", *push)
        assert done.returncode == 0, done.stderr
        assert hub.created["visibility"] == "private" and hub.endpoint in done.stdout
        assert hub.files == {path.name: path.read_bytes() for path in (run / "hub").iterdir()}
        fetched = command(hub, tmp_path, "hf_right", "-c", fetch)
    assert fetched.stdout.strip() == "3", fetched.stderr

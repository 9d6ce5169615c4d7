"""Finished songs in the libraries people use: datasets, pandas, the card of the hub. No network is used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from reelmill.songs.make.generate import generate
from reelmill.songs.results.card import dataset_card
from reelmill.songs.results.collect import collect
from reelmill.songs.store.plan import read_plan
from tests.songs.conftest import SONGS

ROOT = Path(__file__).parents[3]
# https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
HUB_SIZES = {
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B",
}  # fmt: skip


def audio_problem() -> str:
    """Why sound cannot be read with torchcodec here; "" if it can. Asked of another process: it may crash."""
    done = subprocess.run(
        [sys.executable, "-c", "import torchcodec.decoders"], capture_output=True, text=True, timeout=300
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@pytest.fixture(scope="module")
def with_audio_extra() -> None:
    """Skips a test where the audio extra is not installed, unless REQUIRE_AUDIO=1 says that it is."""
    if problem := audio_problem():
        required = os.environ.get("REQUIRE_AUDIO") == "1"
        give_up = pytest.fail if required else pytest.skip
        give_up(f"{problem}; pip install -c constraints.txt -e '.[audio]' and apt-get install ffmpeg")


@pytest.fixture(scope="module")
def collected(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the reference with its index, summary and card, where the README says it is."""
    home = tmp_path_factory.mktemp("home")
    directory = Path(shutil.copytree(reference, home / "songs" / "irish"))
    collect(directory)
    return directory


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def run_block(words: str, document: Path, directory: Path, cache: Path) -> str:
    """What the one Python block of a document with ``words`` in it prints, run in ``directory``."""
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = (one for one in blocks if words in one)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=directory,
        env={**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/songs.md"])
def test_the_pages_open_songs_as_written(collected: Path, tmp_path: Path, page: str) -> None:
    printed = run_block("index.parquet", ROOT / page, collected.parents[1], tmp_path)
    assert "X:0\nT:Reel" in printed and "8000" in printed and "4/4 " in printed


def test_the_page_renders_songs_as_they_are_read(collected: Path, tmp_path: Path) -> None:
    printed = run_block('audio="render"', ROOT / "docs/songs.md", collected.parents[1], tmp_path)
    assert re.fullmatch(r"torch\.Size\(\[\d{4,}\]\)\n", printed)


def test_the_page_opens_sound_as_written(collected: Path, tmp_path: Path, with_audio_extra: None) -> None:
    assert "8000" in run_block("audio/*.tar", ROOT / "docs/songs.md", collected.parents[1], tmp_path)


def test_the_card_opens_songs_as_written(collected: Path, tmp_path: Path) -> None:
    run_block("load_dataset", collected / "README.md", collected.parent, tmp_path)


def test_webdataset_reads_the_text_half(reference: Path, tmp_path: Path) -> None:
    dataset = datasets.load_dataset(
        "webdataset", data_files=str(reference / "text" / "*.tar"), split="train", cache_dir=str(tmp_path)
    )
    assert len(dataset) == SONGS
    assert dataset[5]["json"]["id"] == 5 and dataset[5]["json"]["abc"].startswith("X:5\n")
    assert dataset[5]["mid"][:4] == b"MThd"


def test_webdataset_decodes_the_audio_half(reference: Path, tmp_path: Path, with_audio_extra: None) -> None:
    dataset = datasets.load_dataset(
        "webdataset", data_files=str(reference / "audio" / "*.tar"), split="train", cache_dir=str(tmp_path)
    )
    assert len(dataset) == SONGS
    for song in dataset:
        samples, facts = song["wav"].get_all_samples(), song["json"]
        assert samples.sample_rate == 8000
        assert samples.data.shape[1] / 8000 == pytest.approx(facts["duration_seconds"], abs=0.001)
        assert song["abc"].decode() == facts["abc"] and facts["spectral_centroid_hz"] > 0


def test_the_card_is_the_hubs(collected: Path) -> None:
    data = DatasetCard.load(collected / "README.md").data
    assert data.pretty_name == "irish" and data.size_categories == ["n<1K"]
    assert data.task_categories == ["text-generation", "text-to-audio"]
    assert {"audio", "webdataset"} <= set(data.tags)
    assert datasets.get_dataset_config_names(str(collected)) == ["audio", "text"]
    assert datasets.get_dataset_default_config_name(str(collected)) == "audio"


def test_sizes_are_the_hubs_words(collected: Path) -> None:
    plan, summary = read_plan(collected), collect(collected)
    for songs in (1, 999, 1000, 10**6, 10**7, 5 * 10**7, 10**9):
        card = DatasetCard(dataset_card("x", plan, {**summary, "songs": songs}))
        (size,) = card.data.size_categories
        assert size in HUB_SIZES, songs


def test_the_folder_is_a_dataset_by_itself(collected: Path, tmp_path: Path) -> None:
    text = datasets.load_dataset(str(collected), "text", split="train", cache_dir=str(tmp_path))
    assert [song["json"]["id"] for song in text] == list(range(SONGS))
    index = datasets.load_dataset(
        "parquet", data_files=str(collected / "index.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert index["abc"][:] == [song["abc"] for song in text["json"]]


def test_the_folder_gives_sound_where_there_is_any(
    collected: Path, tmp_path: Path, with_audio_extra: None
) -> None:
    dataset = datasets.load_dataset(str(collected), split="train", cache_dir=str(tmp_path))
    assert dataset.num_rows == SONGS and dataset[0]["wav"]["sampling_rate"] == 8000


def test_the_folder_gives_text_where_there_is_no_sound(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=9, audio=False, progress=False)
    collect(out)
    dataset = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset.num_rows == 9 and dataset[8]["json"]["id"] == 8


def test_the_card_renders_text_as_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts"
    generate(run, out, songs=9, audio=False, progress=False)
    collect(out)
    printed = run_block('audio="render"', out / "README.md", tmp_path, tmp_path / "cache")
    assert len(printed.splitlines()) == 9 and printed.startswith("Reel (") and "8000" in printed

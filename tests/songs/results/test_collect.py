"""What ``collect`` writes and ``open_songs`` reads, with the libraries people use."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from torch.utils.data import DataLoader

import reelmill
from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.make.render import render_directory
from reelmill.songs.results.collect import collect
from tests.songs.conftest import SONGS


def test_index_summary_and_card(songs: Path) -> None:
    summary = collect(songs)
    index = pandas.read_parquet(songs / "index.parquet")
    assert list(index["id"]) == list(range(SONGS))
    assert list(index["shard"]) == [song // 8 for song in range(SONGS)]
    assert index["abc"].str.startswith("X:").all() and index["playable"].all()
    assert np.allclose(index["duration_seconds"], index["midi_seconds"] + 1, atol=0.002)
    assert index["loudness_dbfs"].between(-40, 0).all()

    assert json.loads((songs / "summary.json").read_text()) == summary
    assert (summary["songs"], summary["failed"]["count"]) == (SONGS, 0)
    assert summary["attempts"]["made"] == index["attempts"].sum()
    assert summary["distributions"]["notes"]["median"] == index["notes"].median()
    assert summary["labels"].get("fast", 0) + summary["labels"].get("slow", 0) == SONGS

    front, _, text = (songs / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    metadata = yaml.safe_load(front)
    assert metadata["size_categories"] == ["n<1K"]
    for config in metadata["configs"]:
        assert list(songs.glob(config["data_files"])), "the hub finds what the card names"
    assert "64 songs" in text

    assert verify(songs).intact
    before = {name: (songs / name).read_bytes() for name in ("index.parquet", "summary.json", "README.md")}
    collect(songs)
    assert {name: (songs / name).read_bytes() for name in before} == before


def test_what_is_of_this_machine_is_left_out_of_an_upload(songs: Path, tmp_path: Path) -> None:
    # The hub reads .gitignore as git does.
    collect(songs)
    wanted = sorted(str(path.relative_to(songs)) for path in songs.rglob("*.tar"))
    wanted += [
        "README.md",
        ".gitignore",
        "index.parquet",
        "summary.json",
        "plan.json",
        "model/model.safetensors",
    ]
    for name in (
        "logs/submissions/x/job.json",
        "leases/x",
        "comet/x.zip",
        "metrics.jsonl",
        "text/.x.partial-0",
    ):
        (songs / name).parent.mkdir(parents=True, exist_ok=True)
        (songs / name).touch()
    git = ["git", f"--git-dir={tmp_path / 'repository'}", f"--work-tree={songs}"]
    subprocess.run([*git, "init", "--quiet"], check=True, timeout=60)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True, timeout=60, cwd=songs,
    ).stdout.split()  # fmt: skip
    assert set(wanted) <= set(listed)
    left_out = ("logs/", "leases/", "comet/", "metrics", "text/.", "audio/.", ".plan")
    assert [name for name in listed if name.startswith(left_out)] == []


def test_an_incomplete_directory_is_not_collected(songs: Path) -> None:
    (songs / "audio" / "shard-000003.json").unlink()
    with pytest.raises(IncompleteError, match=r"audio/shard-000003\.json: missing"):
        collect(songs)
    assert not (songs / "index.parquet").exists()


def test_songs_without_sound_have_a_row(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    overrides = ["sampling.max_length=12", "songs.require=none"]
    generate(run, out, songs=9, overrides=overrides, progress=False)
    summary = collect(out)
    assert summary["without_sound"] == {"count": 9, "reasons": {"no notes": 9}}
    assert pandas.read_parquet(out / "index.parquet")["duration_seconds"].isna().all()


def test_text_alone_is_collected_and_opened(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=9, audio=False, progress=False)
    assert collect(out)["without_sound"] is None
    assert "duration_seconds" not in pandas.read_parquet(out / "index.parquet")
    opened = list(reelmill.open_songs(out))
    assert [song["id"] for song in opened] == list(range(9))
    assert all(song["midi_file"][:4] == b"MThd" for song in opened)
    with pytest.raises(RequestError, match="no finished audio shard"):
        reelmill.open_songs(out, audio=True)
    render_directory(out, progress=False)
    assert "audio" in next(iter(reelmill.open_songs(out)))


def test_open_songs_decodes_sound(reference: Path) -> None:
    songs = list(reelmill.open_songs(reference))
    assert [song["id"] for song in songs] == list(range(SONGS))
    for song in songs:
        audio = song["audio"]
        assert audio["sampling_rate"] == 8000 and audio["array"].dtype == np.float32
        assert audio["array"].ndim == 1 and audio["samples"].shape == (len(audio["array"]), 1)
        assert len(audio["array"]) / 8000 == pytest.approx(song["duration_seconds"], abs=0.001)
        level = 20 * np.log10(np.sqrt(np.mean(audio["array"].astype(np.float64) ** 2)))
        assert level == pytest.approx(song["loudness_dbfs"], abs=0.01)


def test_open_songs_feeds_data_loader_processes(reference: Path) -> None:
    dataset = reelmill.open_songs(reference, audio=False).select_columns(["id", "abc"])
    loaded = [song["id"] for song in DataLoader(dataset, batch_size=None, num_workers=2)]
    assert sorted(loaded) == list(range(SONGS))
    shuffled = [song["id"] for song in dataset.shuffle(seed=1, buffer_size=16)]
    assert sorted(shuffled) == list(range(SONGS)) and shuffled != sorted(shuffled)

"""``open_songs``: rendered songs are the stored ones, whoever asks for them and in what order."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from torch.utils.data import DataLoader

from reelmill import open_songs
from reelmill.errors import RequestError
from reelmill.songs.make.generate import generate
from reelmill.songs.make.render import render_directory
from reelmill.songs.store.manifest import shard_numbers
from reelmill.songs.store.plan import plan_path
from tests.songs.conftest import SONGS

CD = ["audio.sample_rate=44100", "audio.channels=2"]


def by_id(songs: Any) -> dict[int, dict[str, Any]]:
    """Rows by id; fails for an id that comes twice."""
    rows: dict[int, dict[str, Any]] = {}
    for song in songs:
        assert song["id"] not in rows
        rows[song["id"]] = song
    return rows


def assert_same_songs(rendered: dict[int, dict[str, Any]], stored: dict[int, dict[str, Any]]) -> None:
    """The same ids, text and, bit for bit, sound."""
    assert rendered.keys() == stored.keys()
    for song, row in rendered.items():
        wanted = stored[song]
        assert {**row, "audio": 0} == {key: wanted[key] for key in row} | {"audio": 0}
        assert row["audio"]["sampling_rate"] == wanted["audio"]["sampling_rate"]
        for name, dtype in (("samples", np.int16), ("array", np.float32)):
            ours, theirs = np.asarray(row["audio"][name]), wanted["audio"][name]  # a loader gives tensors
            assert ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape
            assert ours.tobytes() == theirs.tobytes()


def edit_plan(directory: Path, *keys: str, value: str) -> None:
    """Set one value of plan.json."""
    plan = json.loads(plan_path(directory).read_text())
    section = plan
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    plan_path(directory).write_text(json.dumps(plan))


def test_rendered_sound_is_the_stored_sound(reference: Path) -> None:
    assert_same_songs(by_id(open_songs(reference, audio="render")), by_id(open_songs(reference)))


@pytest.mark.parametrize("settings", [[*CD, "audio.format=flac"], CD], ids=["flac", "wav"])
def test_text_alone_sounds_as_if_it_had_been_rendered(run: Path, tmp_path: Path, settings: list[str]) -> None:
    generate(run, tmp_path / "songs", songs=9, overrides=settings, audio=False, progress=False)
    rendered = open_songs(tmp_path / "songs", audio="render")
    rows = by_id(rendered)
    assert len(rows) == rendered.info.splits["train"].num_examples == 9
    assert rows[0]["audio"]["samples"].shape[1] == 2 and rows[0]["audio"]["sampling_rate"] == 44100
    assert not shard_numbers(tmp_path / "songs", "audio")
    render_directory(tmp_path / "songs", progress=False)
    assert_same_songs(rows, by_id(open_songs(tmp_path / "songs")))


def test_songs_without_sound_are_left_out(run: Path, tmp_path: Path) -> None:
    garbage = ["sampling.max_length=40", "sampling.temperature=1.5", "songs.require=none"]
    made = generate(run, tmp_path / "songs", songs=24, overrides=garbage, progress=False)
    stored, rendered = open_songs(tmp_path / "songs"), open_songs(tmp_path / "songs", audio="render")
    assert 0 < len(made.silent) < 24
    rows = by_id(rendered)
    assert rows.keys() == set(range(24)) - made.silent.keys()
    assert_same_songs(rows, by_id(stored))
    assert stored.info.splits["train"].num_examples == len(rows)
    assert rendered.info.splits["train"].num_examples == 24


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader_processes_divide_the_songs(reference: Path, start: str) -> None:
    rendered = open_songs(reference, audio="render")
    begun = iter(rendered.shuffle(seed=1, buffer_size=4))
    next(begun)  # its threads go on while the processes start
    loader = DataLoader(rendered, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120)
    assert_same_songs(by_id(loader), by_id(open_songs(reference)))
    begun.close()


def test_shuffled_songs_are_the_same_in_another_order(reference: Path) -> None:
    rendered = open_songs(reference, audio="render")
    orders = []
    for seed in (1, 2):
        rows = by_id(rendered.shuffle(seed=seed, buffer_size=8))
        assert_same_songs(rows, by_id(open_songs(reference)))
        orders.append(list(rows))
    assert list(range(SONGS)) not in orders and orders[0] != orders[1]


@pytest.mark.parametrize("audio", [False, True, "render"])
def test_columns_and_number_of_songs_are_known(reference: Path, audio: Any) -> None:
    songs = open_songs(reference, audio=audio)
    row = next(iter(songs))
    assert songs.column_names == list(songs.features) and set(songs.features) == row.keys()
    assert songs.info.splits["train"].num_examples == SONGS and songs.num_shards == SONGS // 8
    stored = datasets.Dataset.from_list([row], features=songs.features)[0]  # the types are the rows'
    assert stored["abc"] == row["abc"]
    if audio:
        assert np.array_equal(stored["audio"]["samples"], row["audio"]["samples"])
    else:
        assert stored["midi_file"] == row["midi_file"]


def test_an_epoch_goes_on_where_it_was_left(reference: Path) -> None:
    songs = open_songs(reference, audio="render")
    begun = iter(songs)
    first = [next(begun)["id"] for _ in range(11)]
    again = open_songs(reference, audio="render")
    again.load_state_dict(songs.state_dict())
    assert first + [song["id"] for song in again] == list(range(SONGS))


def test_array_is_the_mean_of_the_channels(run: Path, tmp_path: Path) -> None:
    generate(run, tmp_path / "songs", songs=8, overrides=CD, audio=False, progress=False)
    for song in open_songs(tmp_path / "songs", audio="render"):
        samples = song["audio"]["samples"]
        assert np.array_equal(song["audio"]["array"], samples.mean(axis=1, dtype=np.float64) / 32768)


def test_what_is_missing_is_said_at_the_call(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"audio 'other'; valid are None, True, False, 'render'"):
        open_songs(songs, audio="other")  # type: ignore[arg-type]
    edit_plan(songs, "settings", "audio", "soundfont", value="/nowhere.sf2")
    with pytest.raises(RequestError, match=r"audio\.soundfont = '/nowhere\.sf2': no such file"):
        open_songs(songs, audio="render")
    monkeypatch.setenv("PATH", str(tmp_path))
    edit_plan(songs, "settings", "audio", "backend", value="fluidsynth")
    with pytest.raises(RequestError, match="no program 'fluidsynth' on the PATH"):
        open_songs(songs, audio="render")


def test_another_soundfont_than_the_stored_sounds_is_refused(songs: Path) -> None:
    edit_plan(songs, "fingerprint", "audio", "soundfont", value="0" * 64)
    with pytest.raises(RequestError, match=r"same sound: soundfont is '0{64}' in the plan"):
        open_songs(songs, audio="render")
    assert len(by_id(open_songs(songs))) == SONGS

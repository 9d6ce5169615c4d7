"""What the report says, without a browser."""

import csv
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from written_directories import FAILED, HOSTILE, HOSTILE_SONG, TUNES, tone, write_run, write_songs

from reelmill.config import load
from reelmill.errors import IncompleteError, RequestError
from reelmill.evaluation import evaluate_run
from reelmill.report.engraving import engrave
from reelmill.report.page import SAMPLE, results, write_report
from reelmill.report.publication import publish_songs
from reelmill.report.results import COLUMNS, format_results
from reelmill.report.songs import read_songs
from reelmill.report.sound import LONGEST, clip
from reelmill.songs.store.manifest import tar_path
from reelmill.tracking.comet import Publisher
from reelmill.tracking.settings import TrackingSettings
from reelmill.training.loop import train


def test_the_same_directory_gives_the_same_page(songs_directory: Path) -> None:
    first = write_report(songs_directory).read_bytes()
    assert write_report(songs_directory).read_bytes() == first
    assert len(first) < 3_000_000


def test_the_sample_is_spread_over_the_songs_and_leaves_out_what_failed(songs_directory: Path) -> None:
    songs = read_songs(songs_directory)
    ids = [song.facts["id"] for song in songs.sample(SAMPLE)]
    assert ids == sorted(set(ids)) and len(ids) == SAMPLE
    assert max(np.diff(ids)) <= 4 and ids[0] <= 2 and ids[-1] >= 37
    everything = [song.facts["id"] for song in songs.sample(1000)]
    assert everything == [song for song in range(40) if song != FAILED]


def test_totals_count_each_song_once(songs_directory: Path) -> None:
    songs = read_songs(songs_directory)
    assert (songs.made, songs.sounding, len(songs.facts)) == (39, 39, 39)
    assert songs.failures("text") == {"fewer than 16 notes": 1}
    assert not songs.failures("audio")  # a song without a text is not counted again
    assert songs.attempts["made"] == 80 and songs.attempts["midi"] == 40
    assert songs.total("duration_seconds") == sum(2 + song / 4 for song in range(40) if song != FAILED)
    assert songs.seconds == 10  # five shards of two seconds; text and audio were made at once


def test_a_damaged_shard_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    directory = write_songs(tmp_path / "songs", 24, 8, audio=True)
    path = tar_path(directory, "audio", 1)
    path.write_bytes(path.read_bytes()[:5000])
    (directory / "audio" / "shard-000002.json").write_text("{")
    page = write_report(directory).read_text()
    assert "Some shards could not be read" in page
    assert "shard-000001.tar" in page and "shard-000002.json" in page
    assert "Jig of Slurs" in page


def test_results_have_the_words_of_the_lab(songs_directory: Path) -> None:
    rows = results(songs_directory)
    assert len(rows) == SAMPLE and tuple(rows[0]) == COLUMNS
    assert {row["tempo"] for row in rows} == {"fast", "slow"}
    assert {row["timbre"] for row in rows} == {"bright", "warm"}
    text = format_results(rows)
    assert len(text.splitlines()) == SAMPLE + 1
    assert "Jig of Slurs" in text and "100 bpm  slow" in text
    rows[0]["title"] = "\x1b[31mred\n"
    assert "\x1b" not in format_results(rows) and len(format_results(rows).splitlines()) == SAMPLE + 1


def test_songs_reach_comet_with_sound_and_table(songs_directory: Path) -> None:
    for _ in range(2):  # again is the same experiment
        path = publish_songs(songs_directory, TrackingSettings(online=False))
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
        uploads = [message["payload"] for message in messages if message["type"] == "file_upload"]
        kinds = [upload["upload_type"] for upload in uploads]
        assert (kinds.count("text-sample"), kinds.count("audio")) == (SAMPLE, SAMPLE)
        table = next(item for item in uploads if item["additional_params"]["fileName"] == "results.csv")
        rows = list(csv.DictReader(archive.read(table["file_path"]).decode().splitlines()))
    assert rows[0]["title"] == HOSTILE and int(rows[0]["song"]) == HOSTILE_SONG
    parameters = [
        m["payload"]["param"] for m in messages if m["type"] == "parameter_msg" and "param" in m["payload"]
    ]
    values = {item["paramName"]: item["paramValue"] for item in parameters}
    assert values["songs.made"] == 39 and values["songs.passed_midi"] == 0.5
    assert len(list((songs_directory / "comet").glob("*.zip"))) == 1


def test_samples_of_a_run_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    Publisher(run, TrackingSettings(online=False), {}).log_song("step-100", TUNES[1], tone(1, 440), step=100)
    page = write_report(run).read_text()
    assert (
        "step-100" in page and "Jig of Slurs" in page and "data:audio/" in page and "data:image/svg" in page
    )


def test_a_run_shows_songs_of_its_best_model_and_the_test_figure(tmp_path: Path) -> None:
    (tmp_path / "book.abc").write_text("\n".join(f"X:{i}\n{TUNES[i % 2][4:]}% {i}\n" for i in range(60)))
    settings = [
        f"corpus.source={tmp_path / 'book.abc'}", f"corpus.directory={tmp_path / 'corpus'}",
        "corpus.similarity=1.0", "corpus.test_fraction=0.5", "model.embedding_size=8", "model.hidden_size=32",
        "training.steps=4", "training.batch_size=4", "training.sequence_length=32", "tracking.comet=false",
        "sampling.max_length=80",
    ]  # fmt: skip
    run = tmp_path / "run"
    assert train(load(None, settings), run).finished
    scores = evaluate_run(run)
    for _ in range(2):  # the second page does not test again
        page = write_report(run).read_text()
        assert f"{scores['bits_per_char']:.3f}" in page and f"{scores['tunes']} test tunes" in page
        assert "8 songs of step-000004, the best checkpoint: its first ones, none chosen" in page
        assert page.count("<article") == 8
    assert write_report(run).read_text() == page


def test_a_quantity_that_never_changes_is_not_drawn(tmp_path: Path) -> None:
    songs = read_songs(write_songs(tmp_path / "songs", 8, 8, audio=True))
    drawn = "Tempo of 7 songs"
    assert drawn in write_report(songs.directory).read_text()
    tar = tar_path(songs.directory, "audio", 0)
    tar.write_bytes(re.sub(rb'"tempo_bpm": \d+\.0', b'"tempo_bpm": 120.0', tar.read_bytes()))
    assert drawn not in write_report(songs.directory).read_text()


@pytest.mark.parametrize("suffix", ["WAV", "FLAC"])
def test_a_clip_is_small_and_sounds_like_the_song(tmp_path: Path, suffix: str) -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(44100 * 5) / 44100) * 0.5
    path = tmp_path / "song"
    soundfile.write(path, np.stack([wave, wave], axis=1), 44100, format=suffix, subtype="PCM_16")
    made = clip(path.read_bytes())
    (tmp_path / "clip").write_bytes(made.data)
    samples, rate = soundfile.read(tmp_path / "clip")
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * rate / len(samples) - 440) < 2
    assert made.seconds == 5 and not made.cut
    assert len(made.data) < 5 * 12_000


def test_a_long_song_is_cut() -> None:
    made = clip(tone(LONGEST + 30, 300, rate=8000))
    assert made.cut and made.seconds == LONGEST + 30
    assert len(made.data) < LONGEST * 12_000


def test_what_the_engraver_cannot_take_is_a_reason_and_not_an_error() -> None:
    hostile = [
        "",
        "garbage",
        "X:1\nT:no music\nM:C\nL:1/8\nK:D Major",  # ends Verovio 6.4 with a segmentation fault
        "X:1\nK:D\n" + "[[[((({{{" * 50,
        "X:1\nM:0/0\nL:1/0\nK:D\nABc|\n",
        "X:1\nK:D\n\0\x01\ud7ff|\n",
    ]
    for abc in hostile:
        engraving = engrave(abc)
        assert engraving.svg.startswith("<svg") or engraving.problem, abc
    assert engrave("").problem
    for abc in TUNES:
        assert engrave(abc) == engrave(abc)
        assert engrave(abc).svg.count('class="note') > 15
    assert engrave("X:1\nL:1/8\nK:D\nABc def|!\n!trill!ABc def|]\n").svg  # "!" as old ABC breaks lines


def test_what_is_no_songs_and_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="neither a songs directory"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(IncompleteError, match="no step"):
        write_report(tmp_path)
    empty = write_songs(tmp_path / "songs", 4, 4, audio=False)
    for path in (empty / "text").iterdir():
        path.unlink()
    with pytest.raises(IncompleteError, match="no finished song"):
        write_report(empty)

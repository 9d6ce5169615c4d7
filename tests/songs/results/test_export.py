"""``reelmill export``: a condition on the index picks songs, and they come as files other programs open."""

import io
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
import symusic

import reelmill
from reelmill.cli import main
from reelmill.corpus.books import read_book
from reelmill.songs.make.generate import generate
from reelmill.songs.results.collect import collect
from reelmill.songs.store.song import as_row


@pytest.fixture
def collected(songs: Path) -> Path:
    collect(songs)
    return songs


def export(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, output, errors) of ``reelmill export``."""
    code = main(["export", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_book_holds_the_songs_that_match(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = pandas.read_parquet(collected / "index.parquet")
    most = index["duration_seconds"].median()
    matching = index[(index["meter"] == "4/4") & index["bars"] & (index["duration_seconds"] < most)]
    where = f"meter = '4/4' and bars and duration_seconds < {most}"
    book = tmp_path / "new folder" / "book.abc"
    code, out, _ = export(capsys, collected, "--where", where, "--limit", 4, "--to", book)
    assert (code, out) == (0, f"{book}: 4 songs\n")
    assert list(read_book(book)) == list(matching["abc"][:4])

    before = book.read_bytes()
    code, _, errors = export(capsys, collected, "--to", book)
    assert code == 2 and "exists already" in errors and book.read_bytes() == before


def test_files_are_those_of_the_songs(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = {song["id"]: song for song in reelmill.open_songs(collected)}
    assert export(capsys, collected, "--where", "id in (3, 40)", "--to", tmp_path / "midi")[0] == 0
    assert sorted(path.name for path in (tmp_path / "midi").iterdir()) == ["000000003.mid", "000000040.mid"]
    for path in (tmp_path / "midi").iterdir():
        assert symusic.Score.from_midi(path.read_bytes()).note_num() == songs[int(path.stem)]["notes"]

    assert export(capsys, collected, "--where", "id in (3, 40)", "--to", tmp_path / "stored" / "wav")[0] == 0
    (collected / "audio" / "shard-000005.json").unlink()  # of song 40: what is not there is rendered
    assert export(capsys, collected, "--where", "id in (3, 40)", "--to", tmp_path / "wav")[0] == 0
    for path in (tmp_path / "wav").iterdir():
        assert path.read_bytes() == (tmp_path / "stored" / "wav" / path.name).read_bytes()
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        assert rate == 8000 and np.array_equal(samples, songs[int(path.stem)]["audio"]["samples"])


def test_musicxml_has_the_notes(collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("music21")
    import xml.etree.ElementTree as ElementTree

    assert export(capsys, collected, "--limit", 2, "--to", tmp_path / "musicxml")[0] == 0
    index = pandas.read_parquet(collected / "index.parquet")
    for path in sorted((tmp_path / "musicxml").iterdir()):
        score = ElementTree.parse(io.BytesIO(path.read_bytes())).getroot()
        letters = sum(letter in "abcdefgABCDEFG" for letter in index["abc"][int(path.stem)].split("K:G\n")[1])
        assert score.tag == "score-partwise" and len(score.findall(".//pitch")) == letters


def test_musicxml_without_music21_says_what_is_missing(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "music21", None)
    code, _, errors = export(capsys, collected, "--to", tmp_path / "musicxml")
    assert code == 2 and "needs music21" in errors and not (tmp_path / "musicxml").exists()


@pytest.mark.parametrize(
    "where",
    [
        "metre = '6/8'",
        "meter =",
        "meter = '6/8'; drop table songs",
        "(select count(*) from read_text('plan.json')) > 0",
        "(select count(*) from '/etc/passwd') > 0",
        "title < 5",
    ],
)
def test_a_wrong_condition_is_refused_with_the_columns(
    where: str, collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = export(capsys, collected, "--where", where, "--to", tmp_path / "book.abc")
    assert (code, out) == (2, "") and "columns are: id, shard, abc, " in errors
    assert len(errors.splitlines()) == 2 and not list(tmp_path.glob("*.abc"))


def test_other_wrong_requests(collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = export(capsys, collected, "--where", "false", "--to", tmp_path / "midi")
    assert code == 1 and "no song matches" in errors and not (tmp_path / "midi").exists()
    code, _, errors = export(capsys, collected, "--to", tmp_path / "tunes.txt")
    assert code == 2 and "NAME.abc, or a folder" in errors
    (collected / "index.parquet").unlink()
    code, _, errors = export(capsys, collected, "--to", tmp_path / "midi")
    assert code == 2 and "reelmill collect" in errors


def test_songs_without_sound_give_no_wav(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = tmp_path / "songs"
    generate(run, songs, songs=9, overrides=["sampling.max_length=12", "songs.require=none"], progress=False)
    collect(songs)
    code, _, errors = export(capsys, songs, "--to", tmp_path / "wav")
    assert code == 1 and "none of 9 songs has a file: no sound" in errors and not (tmp_path / "wav").exists()
    code, out, _ = export(capsys, songs, "--where", "not playable", "--to", tmp_path / "midi", "--json")
    assert code == 0 and json.loads(out)["songs"] == 9


@pytest.mark.parametrize(("written", "meter"), [("C", "4/4"), ("C|", "2/2"), ("6/8", "6/8"), ("", "")])
def test_common_time_and_four_four_are_one_meter(written: str, meter: str) -> None:
    assert as_row({"id": 0, "meter": written, "midi": True}) == {"id": 0, "meter": meter, "playable": True}

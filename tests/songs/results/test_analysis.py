"""Songs as music: planted faults are named, copies are found, real tunes look like themselves."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

import reelmill
from reelmill.audio.settings import AudioSettings
from reelmill.errors import RequestError
from reelmill.notation.transposition import transpose
from reelmill.notation.validity import numbered
from reelmill.report.publication import publish_songs
from reelmill.sampling.settings import SamplingSettings
from reelmill.songs.make.reference import FILE
from reelmill.songs.make.validate import validate
from reelmill.songs.results.collect import collect
from reelmill.songs.settings import SongsSettings
from reelmill.songs.store.manifest import committing
from reelmill.songs.store.plan import Plan, create_plan
from reelmill.songs.store.song import Song, empty_tally, text_members
from reelmill.tracking.metrics import read_metrics
from reelmill.tracking.settings import TrackingSettings

TUNE = """X:1
T:The Gentle Fiddler
R:reel
M:4/4
L:1/8
K:D
|:D2FA d2fd|efed BABd|A2FA dAFA|B2AF E3F|D2FA d2fd|efed BABd|ABde faef|d2dc d4:|
|:f2df afdf|g2eg bgeg|f2df afdf|gfec d2de|f2df afdf|g2eg bgeg|abaf gfec|d2dc d4:|
"""
PLANTED = {
    "whole": TUNE,
    "a wrong bar": TUNE.replace("efed BABd|A2FA", "efed BAB|A2FA"),
    "off its tonic": TUNE.replace("gfec|d2dc d4:|\n", "gfec|d2dc e4:|\n"),
    "of 7 + 9": TUNE.replace("|A2FA dAFA", "", 1).replace("|gfec d2de", "|gfec d2de|f2df d2de", 1),
    "without a second part": TUNE.rpartition("|:f2df")[0],
    "the whole again, a fourth up": transpose(TUNE, 5),
}


@pytest.fixture(scope="module")
def tunes() -> list[dict[str, Any]]:
    try:
        return list(reelmill.load_corpus("irish")["train"])
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")


def write_songs(directory: Path, texts: list[str], corpus: str | None = "irish") -> Path:
    """A songs directory of these texts, eight a shard, by a model of ``corpus``."""
    plan = Plan(
        seed=0, songs=len(texts), audio=False, sampling=SamplingSettings(), audio_settings=AudioSettings(),
        songs_settings=SongsSettings(songs_per_shard=8, require="none"), model="0" * 64, run="",
        checkpoint="", fingerprint={},
    )  # fmt: skip
    create_plan(directory, plan)
    for number in range(plan.shards):
        ids = range(plan.first(number), plan.first(number) + plan.count(number))
        with committing(directory, "text", number) as commit:
            for song in ids:
                validated = validate(numbered(texts[song], song), True, 10_000)
                whole = Song(id=song, facts=validated.facts(song, 1), midi=validated.data)
                for name, pieces in text_members(whole):
                    commit.add(name, *pieces)
            tally = {**empty_tally(), "made": len(ids)}
            commit.facts = {"first": ids[0], "count": len(ids), "failed": [], "attempts": tally}
    if corpus:
        said = {"source": corpus, "corpus": {"source": corpus}, "pass_rate": {}}
        (directory / FILE).write_text(json.dumps(said))
    return directory


def index_of(directory: Path) -> pandas.DataFrame:
    collect(directory)
    return pandas.read_parquet(directory / "index.parquet")


def test_planted_faults_are_told_by_name(tmp_path: Path, tunes: list[dict[str, Any]]) -> None:
    index = index_of(write_songs(tmp_path / "songs", list(PLANTED.values())))
    songs = {name: index.iloc[place] for place, name in enumerate(PLANTED)}
    whole = songs["whole"]
    assert (whole["structure"], whole["section_bars"], whole["mode"]) == ("AABB", "8+8", "major")
    assert whole["bars"] and whole["form"] and whole["ends_on_tonic"] and whole["two_repeated_eights"]
    assert whole["inner_bars_right"] == whole["even_sections"] == 1 and whole["pitch_range"] == 21
    assert 0.5 < whole["distinct_bars"] < 1 and whole["bars_as_4_before"] == 0.5

    assert not songs["a wrong bar"]["bars"] and songs["a wrong bar"]["inner_bars_right"] == pytest.approx(
        11 / 12, abs=1e-3
    )
    assert not songs["off its tonic"]["ends_on_tonic"]
    assert songs["of 7 + 9"]["section_bars"] == "7+9" and not songs["of 7 + 9"]["form"]
    assert songs["without a second part"]["structure"] == "AA"
    assert not songs["without a second part"]["form"]
    assert not songs["without a second part"]["two_repeated_eights"]
    assert list(index["duplicate_of"].dropna()) == [0] and index["duplicate_of"].iloc[5] == 0
    assert index["nearest_similarity"].max() < 0.8 and index["copied_notes"].max() < 30


@pytest.mark.parametrize("semitones", [0, -2, 5])
def test_a_copy_is_found_in_whatever_key(tmp_path: Path, tunes: list[dict[str, Any]], semitones: int) -> None:
    chosen = tunes[5:200:40]
    index = index_of(write_songs(tmp_path / "songs", [transpose(tune["text"], semitones) for tune in chosen]))
    assert list(index["nearest_tune"]) == [tune["index"] for tune in chosen]
    assert list(index["nearest_title"]) == [tune["text"].split("\n")[1][2:] for tune in chosen]
    assert (index["nearest_similarity"] == 1).all() and (index["copied_notes"] > 60).all()


def test_a_copied_part_is_found(tmp_path: Path, tunes: list[dict[str, Any]]) -> None:
    tune = next(tune for tune in tunes if tune["text"].count(":|") == 2 and "K:D\n" in tune["text"])
    first = tune["text"].partition("K:D\n")[2].partition(":|")[0]
    own = TUNE.partition("|:f2df")[0]
    index = index_of(write_songs(tmp_path / "songs", [f"{own}{first}:|\n"]))
    assert index["nearest_tune"].iloc[0] == tune["index"] and index["copied_notes"].iloc[0] > 30


def test_real_tunes_look_like_themselves(tmp_path: Path, tunes: list[dict[str, Any]]) -> None:
    songs = write_songs(tmp_path / "songs", [tune["text"] for tune in tunes[::7]])
    music = collect(songs)["music"]
    assert music["songs"]["tunes"] == len(tunes[::7]) and music["training"]["tunes"] == len(tunes)
    for name, value in music["songs"]["means"].items():
        assert value == pytest.approx(music["training"]["means"][name], rel=0.2, abs=0.05), name
    assert max(music["songs"]["divergences"].values()) < 0.01
    assert max(music["held_out"]["divergences"].values()) < 0.005
    assert music["songs"]["nearest"]["mean"] > 0.99 and music["held_out"]["nearest"]["most"] < 0.8
    card = (songs / "README.md").read_text()
    assert "| last note on the tonic |" in card and "held-out tunes" in card

    publish_songs(songs, TrackingSettings(comet=False))
    (logged,) = (record for record in read_metrics(songs / "metrics.jsonl") if record["kind"] == "music")
    assert logged["ends_on_tonic"] == music["songs"]["means"]["ends_on_tonic"]
    assert logged["training_ends_on_tonic"] == music["training"]["means"]["ends_on_tonic"]


def test_songs_are_measured_without_a_corpus_too(tmp_path: Path) -> None:
    summary = collect(
        write_songs(tmp_path / "songs", [TUNE, "X:1\nK:C\n", "", "no tune at all"], corpus=None)
    )
    assert list(summary["music"]) == ["songs"] and summary["music"]["songs"]["tunes"] == 4
    index = pandas.read_parquet(tmp_path / "songs" / "index.parquet")
    assert index["nearest_tune"].isna().all() and list(index["sections"]) == [2, 0, 0, 0]

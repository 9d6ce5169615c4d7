"""``generate`` from the outside: requests, refusals, declared failures, faults, a full disk."""

import json
import logging
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reelmill import durable, open_songs
from reelmill.audio import abc2midi
from reelmill.cli import main
from reelmill.errors import RequestError
from reelmill.model import TrainedModel, new_network
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.make.render import render_directory
from reelmill.songs.store.manifest import read_manifest
from reelmill.songs.store.plan import plan_path, read_plan
from reelmill.songs.store.totals import Outcome
from tests.songs.conftest import SETTINGS, SONGS, manifests, tars, write_run


def text_of(run: Path, out: Path, songs: int, overrides: Sequence[str] = ()) -> Outcome:
    return generate(run, out, songs=songs, overrides=overrides, audio=False, progress=False)


def test_failing_ids_are_declared_and_final(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "songs"
    overrides = ["songs.max_attempts=1", "songs.require=bars"]
    outcome = generate(run, out, songs=SONGS, overrides=overrides, progress=False)
    assert outcome.complete and outcome.remaining == 0
    assert 0 < len(outcome.failed) < SONGS / 2 and outcome.songs == SONGS - len(outcome.failed)
    listed = {
        failure.id: failure.reason
        for shard in range(8)
        for failure in read_manifest(out, "text", shard).failed
    }
    assert listed == outcome.failed and all(listed.values())
    assert outcome.attempts["made"] == SONGS
    found = verify(out)
    assert found.intact and (found.songs, found.failed) == (outcome.songs, len(outcome.failed))
    warned = [record.message for record in caplog.records if "will fail" in record.message]
    assert len(warned) == 1 and "songs.require = bars" in warned[0]
    before = tars(out)
    again = generate(out, progress=False)
    assert (again.made, again.failed, again.songs) == ([], outcome.failed, outcome.songs)
    assert tars(out) == before


def test_a_run_without_a_place_for_its_songs(run: Path) -> None:
    with pytest.raises(RequestError, match="--out DIR says where its songs are"):
        generate(run, songs=3, progress=False)


def test_songs_that_cannot_be_heard_are_declared(run: Path, tmp_path: Path) -> None:
    """Cut off within the header, every song is without a note."""
    out = tmp_path / "songs"
    overrides = ["sampling.max_length=12", "songs.require=none"]
    outcome = generate(run, out, songs=9, overrides=overrides, progress=False)
    assert outcome.complete and outcome.songs == 9
    assert outcome.silent == dict.fromkeys(range(9), "no notes")
    found = verify(out)
    assert found.intact and (found.songs, found.silent) == (9, 9)


def test_a_model_that_knows_nothing_still_ends(
    model: TrainedModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = new_network(model.settings, model.vocabulary, seed=4)
    run = write_run(tmp_path / "run", replace(model, network=network.eval()), SETTINGS)
    outcome = text_of(run, tmp_path / "songs", songs=10, overrides=["songs.max_attempts=15"])
    assert outcome.complete and outcome.songs == 0 and len(outcome.failed) == 10
    assert outcome.attempts["made"] == 150
    assert "attempts is a song; the last: " in caplog.text
    assert verify(tmp_path / "songs").intact
    for command, said in {
        "generate": "there is no song in it",
        "verify": "but there is no song",
        "collect": "there is no song in it",
        "report": "no song of 10 was made",
        "status": "10 ids have no song",
    }.items():
        assert main([command, str(tmp_path / "songs")]) == 1
        seen = capsys.readouterr()
        assert said in seen.out + seen.err and "complete, intact" not in seen.out
        assert "goes on" not in seen.err


def test_song_i_begins_with_its_prompt(run: Path, tmp_path: Path) -> None:
    prompts = ["X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:G4 G4|", "X:1\n"]
    out = tmp_path / "songs"
    text_of(run, out, songs=10, overrides=[f"songs.prompts={json.dumps(prompts)}"])
    for song in open_songs(out, audio=False):
        assert song["abc"].startswith(prompts[song["id"] % 2].replace("X:1", f"X:{song['id']}"))


def test_what_would_mean_other_songs_is_refused_by_key(songs: Path, run: Path) -> None:
    for wanted, words in [
        ({"overrides": ["sampling.temperature=0.5"]}, "sampling.temperature is 1.0 in the plan and 0.5 here"),
        ({"seed": 3}, "seed is 0 in the plan and 3 here"),
        ({"songs": 5}, "songs is 64 in the plan and 5 here"),
        ({"songs": 0}, "--songs 0: at least 1"),
        ({"overrides": ["songs.require=bars", "songs.songs_per_shard=9"]}, "songs.songs_per_shard is 8"),
        ({"overrides": ["sampling.temprature=0.5"]}, "did you mean 'sampling.temperature'"),
        ({"overrides": ["sampling.temperature=-1"]}, "sampling.temperature"),
    ]:
        for source, out in [(songs, None), (run, songs)]:
            with pytest.raises(RequestError) as refused:
                generate(source, out, progress=False, **wanted)  # type: ignore[arg-type]
            assert words in str(refused.value)
    assert generate(songs, overrides=["sampling.slots=5"], progress=False).complete


def test_wrong_requests(run: Path, tmp_path: Path) -> None:
    for arguments, words in [
        ((run, None), "not a songs directory"),
        ((tmp_path / "none", None), "not a songs directory"),
        ((tmp_path / "none", tmp_path / "songs"), "not a run directory"),
        ((run, tmp_path / "songs"), "--songs N"),
    ]:
        with pytest.raises(RequestError, match=words):
            generate(*arguments, progress=False)
    with pytest.raises(RequestError, match=r"songs\.prompts.*'ß' is not in the vocabulary"):
        generate(run, tmp_path / "songs", songs=3, overrides=['songs.prompts=["X:1\\nT:ß"]'], progress=False)
    assert not plan_path(tmp_path / "songs").exists()


def test_another_model_is_refused(songs: Path, model: TrainedModel, tmp_path: Path) -> None:
    network = new_network(model.settings, model.vocabulary, seed=9)
    other = write_run(tmp_path / "other", replace(model, network=network), SETTINGS)
    with pytest.raises(RequestError, match="model is"):
        generate(other, songs, songs=SONGS, progress=False)


@pytest.mark.parametrize(
    ("half", "key"),
    [
        ("text", "numbers"),
        ("text", "characters"),
        ("text", "midi"),
        ("text", "abc2midi"),
        ("audio", "sound"),
        ("audio", "soundfont"),
    ],
)
def test_a_machine_that_would_make_other_bytes_is_refused(songs: Path, half: str, key: str) -> None:
    data = json.loads(plan_path(songs).read_text())
    data["fingerprint"][half][key] = "0" * 64
    data["fingerprint"]["text"]["torch"] = "1.2.3"
    plan_path(songs).write_text(json.dumps(data))
    before = sorted(songs.rglob("*"))
    with pytest.raises(RequestError, match=f"would not make the same {half}: .*{key} is '0000"):
        generate(songs, songs=SONGS + 8, progress=False)
    assert sorted(songs.rglob("*")) == before
    assert verify(songs).problems == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("audio.soundfont=/nowhere.sf2", "no such file"),
        ("audio.soundfont={broken}", "malformed SoundFont"),
        ("sampling.temperature=0.3", "sampling.temperature is"),
        ("songs.require=bars", "songs.require is"),
    ],
)
def test_sound_that_cannot_be_made_is_not_planned(
    run: Path, tmp_path: Path, override: str, said: str
) -> None:
    out, broken = tmp_path / "songs", tmp_path / "broken.sf2"
    broken.write_bytes(b"RIFF\x10\0\0\0sfbk" + bytes(8))
    text_of(run, out, 8)
    before = plan_path(out).read_bytes()
    with pytest.raises(RequestError, match=said):
        render_directory(out, [override.format(broken=broken)], progress=False)
    assert plan_path(out).read_bytes() == before
    assert render_directory(out, ["audio.format=flac"], progress=False).complete
    assert verify(out).intact


def test_another_version_but_the_same_bytes_is_a_warning(
    songs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = json.loads(plan_path(songs).read_text())
    data["fingerprint"]["text"]["torch"] = "1.2.3"
    plan_path(songs).write_text(json.dumps(data))
    (songs / "text" / "shard-000001.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert generate(songs, progress=False).complete
    assert "the same bytes, but torch is '1.2.3'" in caplog.text


def test_float32_on_another_processor_is_said_not_to_be_sure(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    songs = tmp_path / "songs"
    text_of(run, songs, SONGS, ["sampling.precision=float32"])
    data = json.loads(plan_path(songs).read_text())
    data["fingerprint"]["text"]["processor"] = "VSX"
    plan_path(songs).write_text(json.dumps(data))
    (songs / "text" / "shard-000001.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert generate(songs, progress=False).complete
    assert "processor is 'VSX' in the plan" in caplog.text and "rare songs may differ" in caplog.text
    assert "sampling.precision=int8" in caplog.text


def test_songs_of_another_edition_are_not_added_to_but_stay_valid(songs: Path) -> None:
    data = json.loads(plan_path(songs).read_text())
    del data["fingerprint"]["text"]["sampling"]
    plan_path(songs).write_text(json.dumps(data))
    before = plan_path(songs).read_bytes()
    with pytest.raises(RequestError, match=r"sampled by another edition.*another directory: reelmill gen"):
        generate(songs, songs=SONGS + 8, progress=False)
    (songs / "audio" / "shard-000001.json").unlink()
    assert render_directory(songs, progress=False).complete
    assert verify(songs).intact and plan_path(songs).read_bytes() == before
    (songs / "text" / "shard-000001.json").unlink()
    with pytest.raises(RequestError, match=r"sampling is None in the plan and '5' here.*by another edition"):
        generate(songs, progress=False)


def test_sound_of_another_edition_is_not_added_to_but_stays_valid(songs: Path) -> None:
    data = json.loads(plan_path(songs).read_text())
    data["fingerprint"]["audio"].update(
        synthesizer="symusic 0.5.8, soundfont simplified, edition 1", sound="0"
    )
    plan_path(songs).write_text(json.dumps(data))
    assert verify(songs).intact and generate(songs, progress=False).complete
    assert len(list(open_songs(songs))) == SONGS
    (songs / "audio" / "shard-000001.json").unlink()
    with pytest.raises(
        RequestError, match=r"sound was made by another edition.*another directory: reelmill gen"
    ):
        render_directory(songs, progress=False)


def test_a_fault_of_the_machine_costs_shards_and_no_more(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something kills the tool on some tunes: their shards are left, with the fault, and made later."""
    tool, broken, real = tmp_path / "abc2midi", "gfed gfed", abc2midi.program()
    tool.write_text(f'#!/bin/sh\ngrep -q "{broken}" /dev/fd/3 && kill -KILL $$\nexec {real} "$@"')
    tool.chmod(0o755)
    out = tmp_path / "songs"
    with monkeypatch.context() as context:
        context.setattr(abc2midi, "program", lambda: tool)
        outcome = text_of(run, out, songs=SONGS)
    assert not outcome.complete and outcome.faults and outcome.made
    assert len(outcome.faults) + len(outcome.made) == 8
    assert "abc2midi failed 3 times" in outcome.faults[0]
    assert text_of(run, out, songs=SONGS).complete
    assert tars(out) == tars(reference, "text")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 5 MiB, where this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], timeout=60, check=True)


def test_a_full_disk_is_said_and_nothing_made_is_damaged(
    run: Path, reference: Path, small_disk: Path
) -> None:
    out = small_disk / "songs"
    with pytest.raises(RequestError, match="disk is full"):
        generate(run, out, songs=SONGS, progress=False)
    found = verify(out)
    assert found.missing and not found.problems
    assert not [path for path in out.rglob(".*") if durable.is_temporary(path)]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], timeout=60, check=True)
    assert generate(out, progress=False).complete
    assert tars(out) == tars(reference) and manifests(out) == manifests(reference)


def test_the_model_is_copied_again_from_the_run(run: Path, songs: Path) -> None:
    (songs / "model" / "model.safetensors").write_bytes(b"")
    assert not verify(songs).intact
    generate(songs, progress=False)
    assert verify(songs).intact


def test_songs_outlive_their_run(songs: Path, reference: Path) -> None:
    data = json.loads(plan_path(songs).read_text())
    plan_path(songs).write_text(json.dumps({**data, "run": "/nowhere"}))
    for path in songs.glob("text/shard-000002.*"):
        path.unlink()
    assert generate(songs, progress=False).made == [2]
    assert tars(songs) == tars(reference)


def test_rendering_later_may_choose_the_sound(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    text_of(run, out, songs=8)
    assert not read_plan(out).audio
    assert render_directory(out, ["audio.format=flac"], progress=False).complete
    assert read_plan(out).audio and read_plan(out).audio_settings.format == "flac"
    assert verify(out).intact
    with pytest.raises(RequestError, match=r"audio\.format is 'flac' in the plan and 'wav' here"):
        render_directory(out, ["audio.format=wav"], progress=False)
    assert generate(out, progress=False).made == []

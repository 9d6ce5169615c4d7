"""An audit finds what no hash can: a corpus that agrees with itself and is not what its plan makes."""

import json
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.errors import DamagedError, RequestError
from reelmill.songs.check.audit import audit
from reelmill.songs.make.generate import generate
from reelmill.songs.store.plan import grow_plan, plan_path
from tests.songs.check.test_damage import flip_a_byte, rewrite
from tests.songs.conftest import SONGS


def test_songs_made_alone_are_the_same(reference: Path) -> None:
    found = audit(reference, songs=9, seed=3, overrides=["sampling.slots=3"])
    assert found.identical, found.describe()
    assert len(set(found.audited)) == found.with_sound == 9
    assert audit(reference, songs=500, seed=3).audited == list(range(SONGS))


def test_declared_failures_are_made_again_too(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    overrides = ["songs.max_attempts=1", "songs.require=bars"]
    outcome = generate(run, out, songs=40, overrides=overrides, audio=False, progress=False)
    assert outcome.failed
    assert audit(out, songs=40).identical
    path = out / "text" / "shard-000000.json"
    facts = json.loads(path.read_text())
    facts["failed"] = [{"id": 3, "reason": "because"}]
    path.write_text(json.dumps(facts))
    assert any("000000003 failed with 'because'" in line for line in audit(out, songs=40).differences)


def test_a_song_of_another_plan_is_found(songs: Path) -> None:
    """Every hash agrees, because the forger wrote the manifest too."""
    rewrite(songs / "text" / "shard-000002.tar", lambda members: members[:-1])
    found = audit(songs, songs=SONGS)
    assert [line.split(": ")[1] for line in found.differences] == [
        f"000000023.mid is missing, made again {found.differences[0].partition('made again ')[2]}"
    ]


def test_another_model_is_refused(songs: Path) -> None:
    flip_a_byte(songs / "model" / "model.safetensors")
    with pytest.raises(durable.DamagedError, match=r"model\.safetensors"):
        audit(songs)


def test_a_plan_that_is_growing_is_audited_as_far_as_it_is_made(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=12, audio=False, progress=False)
    grow_plan(out, songs=40)
    found = audit(out, songs=40)
    assert found.identical and found.audited == list(range(12)), found.describe()


def test_a_tar_that_is_gone_is_named(songs: Path) -> None:
    (songs / "text" / "shard-000002.tar").unlink()
    with pytest.raises(DamagedError, match=r"shard-000002\.tar: missing"):
        audit(songs, songs=SONGS)


@pytest.mark.parametrize("number", [0, -5])
def test_no_songs_are_no_audit(songs: Path, number: int) -> None:
    with pytest.raises(RequestError, match=f"--songs {number}: at least 1"):
        audit(songs, songs=number)


def test_an_audit_changes_nothing(songs: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"sampling\.temperature"):
        audit(songs, overrides=["sampling.temperature=0.3"])
    before = {path: path.stat().st_mtime_ns for path in songs.rglob("*") if path.is_file()}
    audit(songs, songs=2)
    assert {path: path.stat().st_mtime_ns for path in songs.rglob("*") if path.is_file()} == before
    assert plan_path(songs).is_file()

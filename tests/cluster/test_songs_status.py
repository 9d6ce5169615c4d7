"""How a songs directory stands while it is made, from its files alone."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reelmill.cluster.songs_status import songs_status
from reelmill.cluster.watch import is_done, watch
from reelmill.songs.leases import Leases
from reelmill.songs.plan import grow_plan
from tests.report.written_directories import write_songs

NOW = datetime(2026, 1, 2, 3, 5, tzinfo=UTC).timestamp()


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards 0 to 4 of ten, two seconds each; song 5 has failed."""
    monkeypatch.setenv("PATH", "/nowhere")  # no Slurm
    directory = write_songs(tmp_path / "songs", 40, 8, audio=True)
    for path in directory.glob("*/shard-*.json"):
        manifest = json.loads(path.read_text())
        number = int(path.stem[6:])
        manifest["made_by"] |= {"share": f"{number % 2}/2", "host": "n1", "seconds": 2.0 + 2 * (number % 2)}
        path.write_text(json.dumps(manifest))
    grow_plan(directory, songs=80)
    return directory


def test_done_running_missing_and_failed(songs: Path) -> None:
    with Leases(songs, "0/2") as leases, Leases(songs, "1/2") as others:
        assert leases.take(5) and leases.take(6) and others.take(7) and others.take(8)
        others.release(8)
        (songs / "leases" / "shard-000008.json").write_text("{}")
        os.utime(songs / "leases" / "shard-000008.json", (0, 0))  # its task died long ago
        seen = songs_status(songs, NOW)
    assert (seen.songs, seen.shards, seen.text_shards, seen.audio_shards) == (39, 10, 5, 5)
    assert sorted(one["shard"] for one in seen.running) == [5, 6, 7]
    assert (seen.missing, seen.stale, seen.damaged) == ([8, 9], [8], [])
    assert seen.failed == {"fewer than 16 notes": 1} and not seen.silent
    assert seen.songs_per_second == pytest.approx(4.0)  # 40 ids from 03:04:00 to 03:04:10
    assert seen.seconds_left == pytest.approx(10.0)
    assert [(task["share"], task["songs_per_second"]) for task in seen.slowest] == [
        ("1/2", 2.0),
        ("0/2", 4.0),
    ]
    told = seen.describe()
    for words in (
        "39 of 80 songs, 5 of 10 shards of text, 5 of audio",
        "rate: 4.0 songs/s, 10 s left",
        "1 ids have no song: fewer than 16 notes (1)",
        "running: 3 shards in the hands of 2 tasks",
        "missing: 2 shards in nobody's hands, 1 of them begun by tasks that are gone",
        "slowest tasks: 1/2 on n1 (2.0/s), 0/2 on n1 (4.0/s)",
    ):
        assert words in told, told
    assert not is_done(seen)
    assert json.loads(json.dumps(seen.to_json()))["missing"] == [8, 9]


def test_songs_in_hand_count_for_the_time_that_is_left(songs: Path) -> None:
    with Leases(songs, "0/1") as leases:
        assert leases.take(5)
        path = songs / "leases" / "shard-000005.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "songs": 4}))
        assert songs_status(songs, NOW).seconds_left == pytest.approx(9.0)


def test_where_nobody_is_at_work_it_says_what_to_do(songs: Path) -> None:
    (songs / "audio" / "shard-000002.tar").write_bytes(b"cut")
    (songs / "audio" / "shard-000003.json").write_text("{")
    seen = songs_status(songs, NOW + 3600)
    assert seen.damaged == [2, 3] and {2, 3} <= set(seen.missing)
    assert seen.songs_per_second is None and seen.seconds_left is None
    told = seen.describe()
    assert f"`reelmill generate {songs}` makes them" in told and "damaged: shards 2, 3" in told


def test_watching_ends_when_all_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_songs(tmp_path / "songs", 16, 8, audio=False)
    watch(directory, seconds=0.01)
    assert capsys.readouterr().out.startswith(f"{directory}: 15 of 16 songs, 2 of 2 shards")

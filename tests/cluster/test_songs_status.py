"""How a songs directory stands while it is made, from its files alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.cluster.generate import Songs
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.status.songs_status import songs_status
from reelmill.cluster.status.watch import is_done, status, watch
from reelmill.cluster.submission import Request, write_job
from reelmill.songs.store import leases
from reelmill.songs.store.leases import Leases, read_lease
from reelmill.songs.store.plan import grow_plan
from tests.cluster.conftest import Answers
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
    with Leases(songs, "0/2") as held, Leases(songs, "1/2") as others:
        assert held.take(5) and held.take(6) and others.take(7) and others.take(8)
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
    with Leases(songs, "0/1") as held:
        assert held.take(5)
        path = songs / "leases" / "shard-000005.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "songs": 4}))
        assert songs_status(songs, NOW).seconds_left == pytest.approx(9.0)


def test_a_task_without_a_finished_shard_is_the_slowest_of_all(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rated by what it has in hand; whoever has not had the time of a shard (2.8 s here) is not yet."""
    monkeypatch.setattr(leases, "EXPIRY", 6.0)  # renewed every second
    with Leases(songs, "2/4") as stuck:
        assert stuck.take(5)
        stuck.report(5, 1)
        wait_until(lambda: seconds(songs, 5) >= 3)
        with Leases(songs, "3/4") as fresh:
            assert fresh.take(6)
            slowest = songs_status(songs, NOW).slowest
    assert [task["share"] for task in slowest] == ["2/4", "1/2", "0/2"]
    assert 0 < slowest[0]["songs_per_second"] <= 0.34


def test_shards_in_hand_take_the_same_seconds(songs: Path) -> None:
    """Of a task that has finished three shards of eight in six seconds, two others are in hand."""
    host = {"share": "0/2", "host": "n1"}
    with Leases(songs, "0/2") as held:
        for shard, made in ((5, 6), (6, 0)):
            assert held.take(shard)
            facts = {**host, "songs": made, "seconds": 6.0}
            (songs / "leases" / f"shard-{shard:06d}.json").write_text(json.dumps(facts))
        slowest = {task["share"]: task["songs_per_second"] for task in songs_status(songs, NOW).slowest}
    assert slowest["0/2"] == pytest.approx((3 * 8 + 6) / (3 * 2 + 6))


def test_workers_of_a_task_take_their_seconds_side_by_side(songs: Path) -> None:
    for path in songs.glob("audio/shard-*.json"):
        manifest = json.loads(path.read_text())
        manifest["made_by"]["workers"] = 2 if manifest["made_by"]["share"] == "1/2" else 1
        path.write_text(json.dumps(manifest))
    rates = {task["share"]: task["songs_per_second"] for task in songs_status(songs, NOW).slowest}
    assert rates == {"0/2": 4.0, "1/2": 4.0}


def test_a_shard_counts_from_the_end_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 6.0)
    with Leases(tmp_path, "0/1") as held:
        assert held.take(0) and held.take(1)
        wait_until(lambda: seconds(tmp_path, 1) >= 2)
        held.release(0)
        before = seconds(tmp_path, 1)
        wait_until(lambda: seconds(tmp_path, 1) not in (0.0, before))
        assert seconds(tmp_path, 1) < before


def test_what_is_queued_is_waited_for(songs: Path, tmp_path: Path, slurm_answers: Answers) -> None:
    """Complete songs are not collected yet, and of missing ones nobody has to be told."""
    complete = write_songs(tmp_path / "complete", 16, 8, audio=False)
    for directory in (songs, complete):
        folder = directory / "logs" / "submissions" / "collect-61"
        folder.mkdir(parents=True)
        durable.write_json(
            folder / "submission.json", {"stage": "collect", "time": 1.0, "jobs": ["61"], "tasks": 1}
        )
    slurm_answers(squeue="61|PENDING|Dependency||0:00|9:00||\n")
    assert not is_done(songs_status(complete)) and "makes them" not in songs_status(songs).describe()
    slurm_answers(sacct="61|COMPLETED\n")
    assert is_done(songs_status(complete)) and "makes them" in songs_status(songs).describe()


def test_songs_that_wait_for_their_training_are_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no Slurm
    directory, run = tmp_path / "songs", tmp_path / "run"
    asked = Songs(run, directory, songs=100_000, tasks=2)
    for number, stage in enumerate(("plan", "generate", "collect")):
        folder = directory / "logs" / "submissions" / f"{stage}-{number}"
        write_job(Request(stage, directory, asked.facts()), ClusterSettings(), folder)
        facts = {"stage": stage, "time": float(number), "jobs": [str(60 + number)], "tasks": 1}
        durable.write_json(folder / "submission.json", facts)
    seen = status(directory)
    told = seen.describe()
    assert "100,000 songs asked for, not planned yet" in told and f"`reelmill status {run}`" in told
    assert "step" not in told and "checkpoint" not in told
    for job in ("job 60 (plan)", "job 61 (generate)", "job 62 (collect)"):
        assert job in told
    assert not is_done(seen) and json.loads(json.dumps(seen.to_json()))["asked"] == 100_000


def seconds(songs: Path, shard: int) -> float:
    lease = read_lease(songs, shard)
    return float(lease.facts.get("seconds", 0)) if lease else 0.0


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


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
    assert is_done(watch(directory, seconds=0.01))
    assert capsys.readouterr().out.startswith(f"{directory}: 15 of 16 songs, 2 of 2 shards")

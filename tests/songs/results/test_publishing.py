"""Songs reach Comet: one experiment, a point a finished half of a shard, whoever made it, whatever died."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from reelmill.cli import main
from reelmill.report.publication import publish_songs
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.results import publishing
from reelmill.songs.results.collect import collect
from reelmill.songs.results.publishing import published_live, tracking_settings
from reelmill.songs.results.throughput import Figures
from reelmill.songs.store.plan import read_plan
from reelmill.tracking.metrics import read_metrics
from reelmill.tracking.settings import TrackingSettings
from tests.songs.conftest import SETTINGS, SONGS, write_run
from tests.tracking.comet_server import Server, answering

server = pytest.fixture(answering)
OFFLINE = TrackingSettings(online=False)
# Waits after its second shard until it may go on: both have made some then, whatever their pace.
WORKER = """
import pathlib, sys, time
from reelmill.songs.results import publishing
from reelmill.songs.make.generate import generate
from reelmill.songs.make.launch import Made
run, out, may_go_on = map(pathlib.Path, sys.argv[1:4])
said = Made.shard
def say_and_wait(made, number):
    said(made, number)
    while len(made.shards) >= 2 and not may_go_on.exists():
        time.sleep(0.02)
Made.shard = say_and_wait
publishing._PERIOD = 0.05
with publishing.published_live(out):
    generate(run, out, songs=160, shard=(int(sys.argv[4]), 2), progress=False)
"""


def archived(path: Path) -> dict[str, dict[int, float]]:
    """Value by step of each metric in an offline archive; each step stands once."""
    with zipfile.ZipFile(path) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    points: dict[str, dict[int, float]] = {}
    for metric in (one["payload"]["metric"] for one in messages if one["type"] == "metric_msg"):
        steps = points.setdefault(metric["metricName"], {})
        assert metric["step"] not in steps or "/" not in metric["metricName"]
        steps[metric["step"]] = metric["metricValue"]
    return points


def _workers(directory: Path) -> set[str]:
    records = read_metrics(directory / "metrics.jsonl")
    return {record["kind"] for record in records if record["kind"].startswith("worker")}


def test_an_archive_has_a_point_a_shard_and_can_be_made_again(songs: Path) -> None:
    path = publish_songs(songs, OFFLINE)
    assert path is not None
    points = archived(path)
    manifests = [json.loads(file.read_text()) for file in sorted(songs.glob("text/*.json"))]
    for name, total in {
        "songs": SONGS,
        "attempts": sum(one["attempts"]["made"] for one in manifests),
        "sampling_seconds": sum(one["made_by"]["stages"]["sampling"] for one in manifests),
    }.items():
        assert sum(points[f"text/{name}"].values()) == pytest.approx(total)
        assert points[f"worker-0-of-1/{name}"] == points[f"text/{name}"]
    assert len(points["audio/songs_per_second"]) == len(points["worker-0-of-1/audio_seconds"]) == 8
    assert all(
        0 < rate <= 1 for tier in ("headers", "midi") for rate in points[f"text/passed_{tier}"].values()
    )
    characters = sum(
        points["text/characters_per_second"][step] * seconds
        for step, seconds in points["text/seconds"].items()
    )
    collect(songs)
    written = json.loads((songs / "summary.json").read_text())["distributions"]["characters"]["total"]
    assert characters == pytest.approx(written, rel=0.01)
    assert list(points["corpus/songs"].values()) == [8 * shard for shard in range(1, 9)]

    path.unlink()
    (songs / "metrics.jsonl").unlink()
    assert publish_songs(songs, OFFLINE) == path
    again = archived(path)
    assert {name: again[name] for name in points if "/" in name} == {
        name: points[name] for name in points if "/" in name
    }
    assert verify(songs).intact


def test_a_torn_or_damaged_log_is_mended_and_a_grown_shard_is_news(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=12, audio=False, progress=False)
    figures = Figures(out)
    assert figures.update() == [("text", 0), ("text", 1)] and figures.update() == []
    log = out / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole[:-20])  # killed while it wrote the last line
    assert Figures(out).update() == []
    assert Counter(record["kind"] for record in read_metrics(log)) == {
        "text": 2,
        "worker-0-of-1": 2,
        "corpus": 2,
    }
    log.write_text("{\n" + whole)
    assert len(Figures(out).update()) == 2 and log.read_text() == whole
    generate(out, songs=24, audio=False, progress=False)
    assert Figures(out).update() == [("text", 1), ("text", 2)]  # shard 1 has 8 songs by now
    totals = [record["songs"] for record in read_metrics(log) if record["kind"] == "corpus"]
    assert totals == [8, 12, 16, 24]


@pytest.mark.slow
def test_a_killed_worker_costs_comet_nothing(server: Server, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    may_go_on = tmp_path / "go on"
    command = [sys.executable, "-c", WORKER, str(run), str(out), str(may_go_on)]
    deadline = time.monotonic() + 240
    with subprocess.Popen([*command, "0"]) as killed, subprocess.Popen([*command, "1"]) as other:
        try:
            while len(server.steps("text/songs_per_second")) < 2 or len(list(out.glob("text/*.json"))) < 4:
                assert killed.poll() is None and other.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(killed.pid, signal.SIGKILL)
            may_go_on.touch()
            assert other.wait(240) == 0
        finally:
            killed.kill()
            other.kill()
    live = len(server.steps("text/songs_per_second"))
    generate(out, overrides=["tracking.comet=false"], progress=False)
    assert publish_songs(out, tracking_settings(out)) is None  # all was sent: no archive
    assert live > 2
    workers = {name: server.steps(f"{name}/songs_per_second") for name in _workers(out)}
    assert {"worker-0-of-2", "worker-1-of-2"} <= set(workers) and all(workers.values())
    assert sum(len(steps) for steps in workers.values()) == 20
    for name in ("text/attempts", "text/sampling_seconds", "text/passed_midi", "audio/songs_per_second"):
        steps = server.steps(name)
        assert len(steps) == len(set(steps)) == 20, name
    sounds = [body for path, body in server.requests if path.endswith("asset/upload") and b"fLaC" in body]
    assert len(sounds) >= 16
    keys = {json.loads(body)["experimentKey"] for path, body in server.requests if path.endswith("add/run")}
    assert keys == {json.loads((out / "comet" / "experiment.json").read_text())["key"]}
    host = os.uname().nodename.encode()
    assert len(host) < 4 or not any(host in body for _, body in server.requests)


@pytest.mark.slow
def test_a_worker_does_not_mind_that_comet_is_away(
    server: Server,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(publishing, "_PERIOD", 0.05)
    monkeypatch.setattr(publishing, "_LAST_WORDS", 1.0)
    server.broken = True
    out = tmp_path / "songs"
    with published_live(out):
        assert generate(run, out, songs=SONGS, progress=False).complete
    assert len([record for record in caplog.records if "Comet" in record.message]) <= 1
    server.broken = False
    assert publish_songs(out, tracking_settings(out)) is None
    assert sorted(server.steps("text/songs")) == sorted(set(server.steps("text/songs")))
    assert len(server.steps("text/songs")) == len(server.steps("audio/songs")) == 8


def test_songs_are_tracked_as_their_run_is(model: object, server: Server, tmp_path: Path) -> None:
    settings = {**SETTINGS, "tracking": {"comet": False, "project": "reels"}}
    quiet = write_run(tmp_path / "run", model, settings)  # type: ignore[arg-type]
    out = tmp_path / "songs"
    generate(quiet, out, songs=8, audio=False, progress=False)
    shutil.rmtree(quiet)
    assert tracking_settings(out) == read_plan(out).tracking == TrackingSettings(comet=False, project="reels")
    assert publish_songs(out, tracking_settings(out)) is None
    assert not (out / "comet").exists() and not server.requests
    assert tracking_settings(out, ["tracking.comet=true"]).comet


def test_collect_publishes_where_the_run_was_tracked(songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads((songs / "plan.json").read_text())
    plan["tracking"] |= {"online": False, "project": "reels"}
    (songs / "plan.json").write_text(json.dumps(plan))
    assert main(["collect", str(songs), "tracking.workspace=ours"]) == 0
    (archive,) = (songs / "comet").glob("*.zip")
    assert str(archive) in capsys.readouterr().out
    with zipfile.ZipFile(archive) as contents:
        facts = json.loads(contents.read("experiment.json"))
    assert (facts["project_name"], facts["workspace"]) == ("reels", "ours")

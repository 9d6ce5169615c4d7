"""The real comet_ml sends to a small server on this machine that answers as Comet's API does."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reelmill.tracking import comet
from reelmill.tracking.comet import Publisher
from reelmill.tracking.metrics import MetricsLog
from reelmill.tracking.settings import TrackingSettings
from tests.tracking.comet_server import Server, answering

server = pytest.fixture(answering)


def stored(run: Path, name: str) -> dict[str, Any]:
    path = run / "comet" / name
    return dict(json.loads(path.read_text())) if path.exists() else {}


def append(run: Path, steps: range) -> None:
    log = MetricsLog(run / "metrics.jsonl")
    for step in steps:
        log.append(step, loss=1 / step)
    log.close()


def test_a_job_killed_and_resumed_sends_each_step_once(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = (
        "import pathlib, sys, time\n"
        "from reelmill.tracking.comet import Publisher\n"
        "from reelmill.tracking.metrics import MetricsLog\n"
        "from reelmill.tracking.settings import TrackingSettings\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "publisher = Publisher(run, TrackingSettings(), {'model': {'layers': 1}})\n"
        "log = MetricsLog(run / 'metrics.jsonl')\n"
        "for step in range(1, 9): log.append(step, loss=1 / step); publisher.publish()\n"
        "print('written', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        job.stdout.readline()
        os.kill(job.pid, signal.SIGKILL)
    server.wait_for("train/loss", set(range(1, 9)))  # the kill cost Comet nothing

    MetricsLog(run / "metrics.jsonl").cut_back(5)
    append(run, range(6, 13))
    publisher = Publisher(run, TrackingSettings(), {"model": {"layers": 1}})
    publisher.log_song("song", "X:1\nT:Sent\nK:D\n", step=12)
    assert publisher.close() is None  # all was sent: no archive
    assert sorted(server.steps("train/loss")) == list(range(1, 13))
    assert stored(run, "position.json")["steps"] == {"train": 12}
    assert any(b"T:Sent" in body for path, body in server.requests if path.endswith("/asset/upload"))
    keys = {json.loads(body)["experimentKey"] for path, body in server.requests if path.endswith("add/run")}
    assert keys == {stored(run, "experiment.json")["key"]}


def test_nothing_is_sent_twice(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for resumed in (False, True):
        log = MetricsLog(run / "metrics.jsonl")
        if resumed:
            log.cut_back(4)
        for step in range(5 if resumed else 1, 12 if resumed else 7):
            log.append(step, loss=0.5, seconds=0.123456789 if resumed else 0.25)
        log.close()
        with log.path.open("a") as file:
            file.write('{"kind": "train", "step": 12, "lo')  # being written right now
        publisher = Publisher(run, TrackingSettings(), {})
        publisher.log_song("song", "X:1\nT:Sent\nK:D\n", step=4)
        if resumed:
            publisher.log_song("other", "X:2\nT:News\nK:D\n", step=4)
        assert publisher.close() is None
    assert sorted(server.steps("train/loss")) == list(range(1, 12))
    sent = [body for path, body in server.requests if path.endswith("/asset/upload")]
    assert [sum(title in body for body in sent) for title in (b"T:Sent", b"T:News")] == [1, 1]


def test_a_damaged_position_loses_nothing(server: Server, tmp_path: Path) -> None:
    append(tmp_path, range(1, 3))
    assert Publisher(tmp_path, TrackingSettings(), {}).close() is None
    (tmp_path / "comet" / "position.json").write_text("{")
    append(tmp_path, range(3, 5))
    assert Publisher(tmp_path, TrackingSettings(), {}).close() is None
    assert set(server.steps("train/loss")) == {1, 2, 3, 4}


@pytest.mark.slow
def test_what_comet_did_not_confirm_is_in_the_archive(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    append(run, range(1, 4))
    publisher = Publisher(run, TrackingSettings(), {})
    server.wait_for("train/loss", {1, 2, 3})
    while stored(run, "position.json").get("steps") != {"train": 3}:
        time.sleep(0.1)
    server.broken = True
    append(run, range(4, 7))
    publisher.publish()
    path = publisher.close(timeout=20)
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
    metrics = [message["payload"]["metric"] for message in messages if message["type"] == "metric_msg"]
    assert {item["step"] for item in metrics if item["metricName"] == "train/loss"} == {4, 5, 6}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.slow
def test_what_a_network_took_away_comes_when_it_is_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comet, "_TRY_AGAIN_SECONDS", 0.1)
    server.broken = True
    run = tmp_path / "run"
    append(run, range(1, 4))
    publisher = Publisher(run, TrackingSettings(), {})
    deadline = time.monotonic() + 90
    while not caplog.records:
        publisher.publish()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.broken = False
    while set(server.steps("train/loss")) != {1, 2, 3}:
        publisher.publish()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert publisher.close() is None
    assert sorted(server.steps("train/loss")) == [1, 2, 3]
    assert [record.levelname for record in caplog.records] == ["WARNING"]

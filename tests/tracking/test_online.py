"""The real comet_ml sends to a small server on this machine that answers as Comet's API does."""

import gzip
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reelmill.tracking.comet import Publisher
from reelmill.tracking.metrics import MetricsLog
from reelmill.tracking.outbox import Outbox
from reelmill.tracking.settings import TrackingSettings


class Server(http.server.ThreadingHTTPServer):
    """Keeps the requests it answered; while ``broken`` it answers 503 to all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, bytes]] = []
        self.broken = False

    def steps(self, name: str) -> list[int]:
        """The steps of a metric in the order they arrived."""
        steps: list[int] = []
        for path, body in list(self.requests):
            if path.endswith("/batch/logger/experiment/metric"):
                values = json.loads(gzip.decompress(body))["values"]
                steps += [item["step"] for item in values if item["metricName"] == name]
        return steps

    def wait_for(self, name: str, steps: set[int]) -> None:
        deadline = time.monotonic() + 60
        while not steps <= set(self.steps(name)):
            assert time.monotonic() < deadline, f"only {self.steps(name)} of {name} arrived"
            time.sleep(0.1)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        address = f"127.0.0.1:{self.server.server_port}"
        facts = {
            "msg": "ok",
            "version": "99.0.0",
            "runId": "run",
            "projectId": "project",
            "projectName": "reelmill",
            "workspaceName": "workspace",
            "focusUrl": f"http://{address}/",
            "ws_url": f"ws://{address}/ws",
            "lastOffset": 0,
        }
        if not self.server.broken:
            self.server.requests.append((self.path.split("?")[0], body))
        data = json.dumps(facts).encode()
        self.send_response(503 if self.server.broken else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMET_API_KEY", "abcdefghij0123456789ABCDE")
    monkeypatch.setenv("COMET_URL_OVERRIDE", f"http://127.0.0.1:{server.server_port}/clientlib/")
    yield server
    server.shutdown()
    server.server_close()


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
    assert Outbox(run).position().steps == {"train": 12}
    assert any(b"T:Sent" in body for path, body in server.requests if path.endswith("/asset/upload"))
    keys = {json.loads(body)["experimentKey"] for path, body in server.requests if path.endswith("add/run")}
    assert keys == {Outbox(run).experiment().key}


@pytest.mark.slow
def test_what_comet_did_not_confirm_is_in_the_archive(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    append(run, range(1, 4))
    publisher = Publisher(run, TrackingSettings(), {})
    server.wait_for("train/loss", {1, 2, 3})
    while Outbox(run).position().steps != {"train": 3}:
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

"""A small server on this machine that answers as Comet's API does."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


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


def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """For a fixture: a server that comet_ml takes for Comet, with a key."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COMET_API_KEY", "abcdefghij0123456789ABCDE")
    monkeypatch.setenv("COMET_URL_OVERRIDE", f"http://127.0.0.1:{server.server_port}/clientlib/")
    yield server
    server.shutdown()
    server.server_close()

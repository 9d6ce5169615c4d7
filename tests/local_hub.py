"""A Hugging Face Hub on this machine, as far as pushing a folder and fetching it again needs one."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0" * 40


class LocalHub(ThreadingHTTPServer):
    """Takes one repository; ``files`` is what it holds, ``created`` what was asked of it when it was made."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            repository = f"{self.server.created['organization']}/{self.server.created['name']}"
            self._answer(200, {"url": f"{self.server.endpoint}/{repository}"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self._answer(200, {"files": [_regular(name) for name in names]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content
            url = f"{self.server.endpoint}/{'/'.join(self.path.split('/')[3:5])}/commit/{COMMIT}"
            self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        else:
            self._answer(200, {})

    def do_GET(self) -> None:
        name = self.path.partition(f"/resolve/{COMMIT}/")[2]
        if name:
            self._answer(200, self.server.files[name])
        elif "/tree/" in self.path:
            files = self.server.files.items()
            tree = [{"type": "file", "path": n, "size": len(data), "oid": COMMIT} for n, data in files]
            self._answer(200, tree)
        else:
            siblings = [{"rfilename": name} for name in self.server.files]
            self._answer(200, {"id": "x", "sha": COMMIT, "siblings": siblings, "private": True, "tags": []})

    do_HEAD = do_GET

    def _answer(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"' + base64.b16encode(data[:20]).decode() + '"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _regular(name: str) -> dict[str, Any]:
    return {"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None}


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """The hub, while the block lasts."""
    hub = LocalHub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()

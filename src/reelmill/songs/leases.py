"""Leases: who is making which shard right now, as small files on the disk that all workers share.

A lease only saves work: two workers on one shard write the same bytes, so nothing here needs to be airtight.
A lease is renewed while its holder lives. It is stale once it has not been for ``EXPIRY`` seconds, or at once
if its holder was a process of this machine that is gone. Times are compared as the file server sees them, so
clocks of machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from reelmill import durable
from reelmill.errors import RequestError

EXPIRY = 90.0  # seconds
_RENEWALS = 6  # in the time of EXPIRY


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A lease as read from disk. ``facts``: host, pid, share, songs done in the shard, since when."""

    shard: int
    live: bool
    age: float  # seconds since it was renewed
    facts: dict[str, Any]


class Leases:
    """The leases of one worker, renewed by a thread as long as the context is open."""

    def __init__(self, directory: Path, share: str) -> None:
        self._directory = directory / "leases"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._who = {**_this_process(), "share": share}
        self._held: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew_all, daemon=True)

    def __enter__(self) -> Leases:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        for shard in list(self._held):
            self.release(shard)

    def take(self, shard: int) -> bool:
        """Take a shard unless somebody alive has it."""
        path = _path(self._directory, shard)
        facts = {**self._who, "songs": 0}
        with self._lock:
            self._held[shard] = facts  # first, so that a stop at any moment gives it back
            try:
                with path.open("x", encoding="utf-8") as file:
                    json.dump(facts, file)
            except FileExistsError:
                lease = read_lease(self._directory.parent, shard)
                if lease is not None and lease.live:
                    del self._held[shard]
                    return False
                self._write(path, facts)
            except OSError as error:
                durable.raise_explained(error, path)
        return True

    def report(self, shard: int, songs: int) -> None:
        """Remember how many songs of a held shard are done; the next renewal writes it down."""
        with self._lock:
            if shard in self._held:
                self._held[shard]["songs"] = songs

    def release(self, shard: int) -> None:
        """Give a shard back, finished or not."""
        path = _path(self._directory, shard)
        with self._lock:
            if self._held.pop(shard, None) and (self._is_mine(path) or not _read(path)):
                path.unlink(missing_ok=True)

    def _renew_all(self) -> None:
        while not self._closed.wait(EXPIRY / _RENEWALS):
            for shard in list(self._held):
                path = _path(self._directory, shard)
                # A lease that cannot be renewed goes stale, and then somebody else makes the same bytes.
                with self._lock, contextlib.suppress(OSError, RequestError):
                    if shard in self._held and self._is_mine(path):
                        self._write(path, self._held[shard])

    def _is_mine(self, path: Path) -> bool:
        facts = _read(path)
        return all(facts.get(key) == self._who[key] for key in ("host", "pid", "started"))

    def _write(self, path: Path, facts: dict[str, Any]) -> None:
        partial = durable.temporary(path)
        try:
            partial.write_text(json.dumps(facts))
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            durable.raise_explained(error, path)


def read_lease(directory: Path, shard: int) -> Lease | None:
    """The lease of a shard in a songs directory, live or stale; None if there is none."""
    path = _path(directory / "leases", shard)
    now = _file_server_now(directory / "leases")
    try:
        age = now - path.stat().st_mtime
    except FileNotFoundError:
        return None
    facts = _read(path)
    return Lease(shard=shard, live=age < EXPIRY and not _is_dead(facts), age=age, facts=facts)


def read_leases(directory: Path) -> list[Lease]:
    """All leases of a songs directory, by shard."""
    with contextlib.suppress(FileNotFoundError):
        names = sorted(path.stem[6:] for path in (directory / "leases").glob("shard-*.json"))
        found = [read_lease(directory, int(name)) for name in names if name.isdigit()]
        return [lease for lease in found if lease is not None]
    return []


def _path(leases: Path, shard: int) -> Path:
    return leases / f"shard-{shard:06d}.json"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict):
            return facts
    return {}


def _file_server_now(leases: Path) -> float:
    probe = durable.temporary(leases / "now")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # a reader who may not write here
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(facts: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more (its number may be another's now)."""
    if facts.get("host") != socket.gethostname() or not isinstance(facts.get("pid"), int):
        return False
    return _started(facts["pid"]) != facts.get("started")


def _started(pid: int) -> str:
    """When a process began, as the kernel counts it; "" if it is gone or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]

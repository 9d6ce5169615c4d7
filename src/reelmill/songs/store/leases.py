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
RENEWALS = 6  # in the time of EXPIRY


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A lease as read from disk. ``facts``: host, pid, share, songs done in the shard, and the ``seconds``
    they had taken when they were counted: since the shard was taken, or the worker's one before finished.
    """

    shard: int
    live: bool
    age: float  # seconds since it was renewed
    renewed: float  # when, in seconds since 1970 by the file server's clock
    facts: dict[str, Any]


class Leases:
    """The leases of one worker, renewed by a thread as long as the context is open."""

    def __init__(self, directory: Path, share: str) -> None:
        self._directory = directory / "leases"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._who = {**_this_process(), "share": share}
        self._held: dict[int, dict[str, Any]] = {}
        self._since: dict[int, float] = {}  # when a shard was taken
        self._released = 0.0  # when the last one was
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
        facts = {**self._who, "songs": 0, "seconds": 0.0}
        with self._lock:
            self._held[shard] = facts  # first, so that a stop at any moment gives it back
            self._since[shard] = time.monotonic()
            try:
                with path.open("x", encoding="utf-8") as file:
                    json.dump(facts, file)
            except FileExistsError:
                lease = read_lease(self._directory.parent, shard)
                if lease is not None and lease.live:
                    del self._held[shard], self._since[shard]
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
            if self._since.pop(shard, None) is not None:
                self._released = time.monotonic()
            if self._held.pop(shard, None) and (self._is_mine(path) or not _read(path)):
                path.unlink(missing_ok=True)
                durable.remove_temporaries(path.parent, path.stem)

    def _renew_all(self) -> None:
        while not self._closed.wait(EXPIRY / RENEWALS):
            for shard in list(self._held):
                path = _path(self._directory, shard)
                # A lease that cannot be renewed goes stale, and then somebody else makes the same bytes.
                with self._lock, contextlib.suppress(OSError, RequestError):
                    if shard in self._held and self._is_mine(path):
                        began = max(self._since[shard], self._released)
                        self._held[shard]["seconds"] = round(time.monotonic() - began, 1)
                        self._write(path, self._held[shard])

    def _is_mine(self, path: Path) -> bool:
        facts = _read(path)
        return all(facts.get(key) == self._who[key] for key in ("host", "pid", "started"))

    def _write(self, path: Path, facts: dict[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError):
            _replace(path, facts)
            return
        _replace(path, facts)  # once more: whoever gave the shard back just then has tidied up


def _replace(path: Path, facts: dict[str, Any]) -> None:
    partial = durable.temporary(path)
    try:
        partial.write_text(json.dumps(facts))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        durable.raise_explained(error, path)


def read_lease(directory: Path, shard: int, now: float | None = None) -> Lease | None:
    """The lease of a shard in a songs directory, live or stale; None if there is none.

    ``now`` is what ``file_server_now`` gave, for whoever reads many.
    """
    path = _path(directory / "leases", shard)
    now = file_server_now(directory) if now is None else now
    try:
        renewed = path.stat().st_mtime
    except FileNotFoundError:
        return None
    age, facts = now - renewed, _read(path)
    return Lease(
        shard=shard, live=age < EXPIRY and not _is_dead(facts), age=age, renewed=renewed, facts=facts
    )


def read_leases(directory: Path) -> list[Lease]:
    """All leases of a songs directory, by shard."""
    shards = sorted(leased(directory))
    now = file_server_now(directory) if shards else 0.0
    found = [read_lease(directory, shard, now) for shard in shards]
    return [lease for lease in found if lease is not None]


def leased(directory: Path) -> set[int]:
    """The shards of a songs directory that have a lease, live or stale."""
    names = (path.stem[6:] for path in (directory / "leases").glob("shard-*.json"))
    return {int(name) for name in names if name.isdigit()}


def _path(leases: Path, shard: int) -> Path:
    return leases / f"shard-{shard:06d}.json"


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict):
            return facts
    return {}


def file_server_now(directory: Path) -> float:
    """Seconds since 1970 by the clock of the server that the leases of ``directory`` lie on."""
    probe = durable.temporary(directory / "leases" / "now")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # a reader who may not write here
        return time.time()
    finally:
        with contextlib.suppress(OSError):  # a disk that may only be read
            probe.unlink()


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

"""metrics.jsonl: one JSON object a line, the truth about a run.

A record has a ``kind`` ("train", "evaluation", …), a ``step`` and values. No (kind, step) ever stands twice:
on resume the log is cut back to the checkpoint, and a step that is there already is not written again.
Everything else (Comet, the report) is made from this file and can be made again.
"""

from __future__ import annotations

import json
import math
import os
from io import FileIO
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.errors import DamagedError

Record = dict[str, Any]


class MetricsLog:
    """The metrics log at ``path``; nothing is written before the first ``append`` or ``cut_back``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None
        self._last: dict[str, int] = {}

    def append(self, step: int, *, kind: str = "train", **values: float | int | str) -> bool:
        """Write one record; False if this kind's step stands already (the log is then left as it is).

        Anything ``float`` accepts may be a value; NaN and infinities become null, which JSON can say. The
        record survives a kill of the process at once, a loss of power from the next ``sync`` on. A record
        that the disk has no room for is left out whole, and RequestError says so.
        """
        file = self._file or self._open()
        if step <= self._last.get(kind, -1):
            return False
        record = {"kind": kind, "step": step, **{name: _plain(value) for name, value in values.items()}}
        self._write(file, json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._last[kind] = step
        return True

    def cut_back(self, step: int) -> None:
        """Keep only the records with a step of at most ``step``, atomically."""
        self.close()
        if not self.path.exists():
            return
        kept = [line for line, record in _lines(self.path) if record["step"] <= step]
        data = b"".join(kept)
        if data != self.path.read_bytes():
            durable.write_bytes(self.path, data)

    def read(self) -> list[Record]:
        """All records in the order written; a torn last line is left out."""
        return read_metrics(self.path)

    def sync(self) -> None:
        """Bring what was appended to the disk."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                durable.raise_explained(error, self.path)

    def close(self) -> None:
        """Sync and close; a later ``append`` opens the log again."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                self._file.close()
                self._file = None

    def _write(self, file: FileIO, line: bytes) -> None:
        size = os.fstat(file.fileno()).st_size
        written = 0
        try:
            while written < len(line):
                written += file.write(line[written:])
        except OSError as error:
            os.truncate(self.path, size)
            durable.raise_explained(error, self.path)

    def _open(self) -> FileIO:
        self._last = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opened()
        except OSError as error:
            durable.raise_explained(error, self.path)
        return self._file

    def _opened(self) -> FileIO:
        if self.path.exists():
            whole = 0
            for line, record in _lines(self.path):
                whole += len(line)
                kind = record.get("kind", "train")
                self._last[kind] = max(self._last.get(kind, -1), record["step"])
            if whole < self.path.stat().st_size:
                os.truncate(self.path, whole)  # a torn last line, which the next record must not continue
        return self.path.open("ab", buffering=0)


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics log, [] if there is none. DamagedError names a line that is not one."""
    return [record for _, record in _lines(path)] if path.exists() else []


def _lines(path: Path) -> list[tuple[bytes, Record]]:
    """(raw line, record) for each whole line of the log."""
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return [(line, _parse(path, number, line)) for number, line in enumerate(lines, start=1)]


def _parse(path: Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise DamagedError(f"{path}, line {number}: not a record with a step")
    return record


def _plain(value: Any) -> float | int | str | None:
    if isinstance(value, (str, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None

"""What Comet is to be told, on disk: the parameters, metrics.jsonl and a folder of songs and tables.

    comet/experiment.json   experiment key, project, parameters
    comet/media/            NAME.json beside the files it lists: one song or table each
    comet/position.json     what Comet has confirmed (online only)
    comet/KEY.zip           the offline archive, always replayed from all of the above

Nothing here knows Comet. Everything is read back from disk, so that whichever process delivers it next
begins where the last one was confirmed, whatever was killed in between. Delivery is at least once: a step is
told again only if a kill fell between Comet's confirmation and the note of it, and then with the same values.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.config import parse
from reelmill.errors import IncompleteError
from reelmill.settings import STRICT
from reelmill.tracking.metrics import Record

FOLDER = "comet"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The facts that make several jobs one experiment."""

    key: str
    project: str
    workspace: str
    name: str
    parameters: dict[str, Any]

    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Position:
    """What has been delivered: a place in metrics.jsonl, the last step of each kind, the media."""

    bytes: int = 0
    last_line: str = ""  # the line before ``bytes``: tells whether the log was cut back and written anew
    steps: dict[str, int] = field(default_factory=dict)
    media: dict[str, str] = field(default_factory=dict)  # name → SHA-256
    parameters: str = ""  # SHA-256

    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Media:
    """One song or table; ``files`` are paths by role ("abc", "audio", "table")."""

    name: str
    kind: str
    step: int
    files: dict[str, Path]
    sha256: str


class Outbox:
    """The outbox of a run or a songs directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / FOLDER
        self.metrics = directory / "metrics.jsonl"

    def describe(self, project: str, workspace: str, parameters: dict[str, Any]) -> Experiment:
        """Note the experiment; its key is made once and stays."""
        path = self.folder / "experiment.json"
        try:
            key = self.experiment().key
        except IncompleteError:
            key = secrets.token_hex(16)
        name = self.directory.resolve().name
        parameters = json.loads(json.dumps(parameters, default=str))
        experiment = Experiment(
            key=key, project=project, workspace=workspace, name=name, parameters=parameters
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or durable.read_json(path) != asdict(experiment):
            durable.write_json(path, asdict(experiment))
        return experiment

    def experiment(self) -> Experiment:
        """The facts noted by ``describe``; DamagedError if there are none."""
        path = self.folder / "experiment.json"
        return parse(Experiment, durable.read_json(path), str(path))

    def put(self, name: str, kind: str, step: int, files: dict[str, tuple[str, bytes]]) -> None:
        """Add a song or table; ``files`` gives (suffix, content) by role. The same name replaces."""
        folder = self.folder / "media"
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "unnamed"
        digest = hashlib.sha256()
        listing = {}
        for role, (suffix, content) in files.items():
            listing[role] = f"{stem}.{role}{suffix}"
            digest.update(content)
            durable.write_bytes(folder / listing[role], content)
        entry = {"name": name, "kind": kind, "step": step, "files": listing, "sha256": digest.hexdigest()}
        durable.write_json(folder / f"{stem}.json", entry)

    def delivered(self) -> bool:
        """Whether Comet has confirmed all of it."""
        records, media, _ = self.news(self.position())
        return not records and not media

    def drop_media(self) -> None:
        """Remove the songs and tables, where they have been delivered and can be put again."""
        shutil.rmtree(self.folder / "media", ignore_errors=True)

    def position(self) -> Position:
        """What has been delivered; nothing, where that is not known."""
        try:
            return parse(Position, durable.read_json(self.folder / "position.json"), "position.json")
        except Exception:  # unreadable: deliver all of it again rather than lose any
            return Position()

    def remember(self, position: Position) -> None:
        """Note what has been delivered."""
        durable.write_json(self.folder / "position.json", asdict(position))

    def news(self, since: Position) -> tuple[list[Record], list[Media], Position]:
        """The records and media not yet delivered at ``since``, and the position after them."""
        records, position = self._new_records(since)
        media = [item for item in self._media() if since.media.get(item.name) != item.sha256]
        delivered = {**since.media, **{item.name: item.sha256 for item in media}}
        return records, media, replace(position, media=delivered)

    def _new_records(self, since: Position) -> tuple[list[Record], Position]:
        if not self.metrics.exists():
            return [], since
        with self.metrics.open("rb") as file:
            start = since.bytes if _line_before(file, since) == since.last_line else 0
            file.seek(start)
            lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        records, steps = [], dict(since.steps)
        for line in lines:
            record = json.loads(line)
            kind = record.get("kind", "train")
            if record["step"] > steps.get(kind, -1):
                records.append(record)
                steps[kind] = record["step"]
        end = start + sum(map(len, lines))
        last_line = lines[-1].decode().rstrip("\n") if lines else since.last_line if start else ""
        return records, replace(since, bytes=end, last_line=last_line, steps=steps)

    def _media(self) -> list[Media]:
        folder = self.folder / "media"
        entries = [
            durable.read_json(path)
            for path in sorted(folder.glob("*.json"))
            if not durable.is_temporary(path)
        ]
        media = [
            Media(**{**entry, "files": {role: folder / file for role, file in entry["files"].items()}})
            for entry in entries
        ]
        return sorted(media, key=lambda item: (item.step, item.name))


def _line_before(file: Any, position: Position) -> str:
    """The line of the log that ends at ``position``, or something else if none ends there."""
    expected = len(position.last_line.encode()) + 1 if position.bytes else 0
    if expected > position.bytes:
        return "\0"
    file.seek(position.bytes - expected)
    read = file.read(expected)
    return read.decode(errors="replace").removesuffix("\n") if len(read) == expected else "\0"

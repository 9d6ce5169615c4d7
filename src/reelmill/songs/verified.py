"""What has been read in full and found intact, remembered by a job that verifies for longer than it may run.

Ten terabytes take hours to read, and a time limit should not make a job begin again. So each shard that is
found intact becomes a line of a small file, with the sizes and times of its tars and the hashes of its
manifests; as long as those are what they were, the job need not read it a second time. Nobody else believes
this file: ``reelmill verify`` reads everything, always, for a disk can change a byte and no time.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.audio.encode import extension
from reelmill.songs.examine import Examination
from reelmill.songs.store.manifest import KINDS, manifest_path, tar_path
from reelmill.songs.store.plan import Plan

FILE = ".verified.jsonl"


class Verified:
    """The memory of a songs directory; ``remember`` may be called by one process at a time."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._directory, self._plan = directory, plan
        self._lines = {line["shard"]: line for line in _read(directory / FILE)}

    def recall(self, shard: int) -> Examination | None:
        """What was found in a shard; None if nobody has read it since it was made."""
        line = self._lines.get(shard)
        if line is None or line["of"] != self.state(shard):
            return None
        return Examination(shard=shard, **line["found"])

    def state(self, shard: int) -> list[Any] | None:
        """What an examination holds for; to be asked before it begins. None if something is missing."""
        plan = self._plan
        facts: list[Any] = [plan.first(shard), plan.count(shard)]
        facts.append(extension(plan.audio_settings) if plan.audio else None)
        try:
            for kind in KINDS if plan.audio else KINDS[:1]:
                seen = tar_path(self._directory, kind, shard).stat()
                listed = durable.sha256(manifest_path(self._directory, kind, shard))
                facts += [seen.st_size, seen.st_mtime_ns, listed]
        except OSError:
            return None
        return facts

    def remember(self, found: Examination, state: list[Any] | None) -> None:
        """Write down that a shard in this ``state`` was examined, unless something was wrong with it."""
        if state is None or found.missing or any(found.problems.values()):
            return
        counts = {name: getattr(found, name) for name in ("songs", "failed", "silent", "bytes")}
        line = {"shard": found.shard, "of": state, "found": counts}
        self._lines[found.shard] = line
        # What cannot be written, on a full disk, has to be read again by the next start, and no more.
        with contextlib.suppress(OSError), (self._directory / FILE).open("ab", buffering=0) as file:
            # Begun with the end of a line, for a kill may have left half of one.
            file.write(f"\n{json.dumps(line)}\n".encode())
            os.fsync(file.fileno())


def forget(directory: Path) -> None:
    """Remove the memory, once all is finished or nobody will go on."""
    (directory / FILE).unlink(missing_ok=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole, in order."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and {"shard", "of", "found"} <= value.keys():
            found.append(value)
    return found

"""How far a job has come, as one number that only grows, read from what lies on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelmill.layout import CHECKPOINTS


def progress(job: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Training: the step of the newest checkpoint. Generation: the shards there; for a task of an array under
    Slurm those of its own share and those of others that it has made. Collecting: the shards verified so far.
    """
    place = Path(job["directory"])
    if job["stage"] == "train":
        return newest_checkpoint(place)
    if job["stage"] == "generate":
        if "SLURM_ARRAY_TASK_ID" not in environ:
            return finished_shards(place, 0, 1)
        return finished_shards(place, int(environ["SLURM_ARRAY_TASK_ID"]) + job["first"], job["tasks"])
    if job["stage"] == "collect":
        return verified_shards(place)
    return 0


def newest_checkpoint(run: Path) -> int:
    """The step of the newest complete checkpoint in a run directory; 0 if there is none."""
    steps = [
        int(manifest.parent.name.removeprefix("step-"))
        for manifest in (run / CHECKPOINTS).glob("step-*/manifest.json")
        if manifest.parent.name.removeprefix("step-").isdigit()
    ]
    return max(steps, default=0)


def finished_shards(songs: Path, share: int, shares: int) -> int:
    """How many shards have their manifests that are of one share (of ``shares``) or were made by its worker,
    text and audio counted apart.
    """
    return sum(
        int(manifest.stem.removeprefix("shard-")) % shares == share or _maker(manifest) == f"{share}/{shares}"
        for half in ("text", "audio")
        for manifest in (songs / half).glob("shard-*.json")
        if manifest.stem.removeprefix("shard-").isdigit()
    )


def verified_shards(songs: Path) -> int:
    """How often a shard has been verified in full for a job that collects (``Verified``)."""
    try:
        return (songs / ".verified.jsonl").read_bytes().count(b"}\n")
    except OSError:
        return 0


def _maker(manifest: Path) -> str:
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["made_by"]["share"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""

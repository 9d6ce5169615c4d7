"""What lies where in a run and in a songs directory, for whoever looks at one without needing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG, METRICS, CHECKPOINTS, LOGS = "config.yaml", "metrics.jsonl", "checkpoints", "logs"
TRACKERS = "trackers"
STATE = "state.json"
PLAN = "plan.json"
INDEX = "index.parquet"


def is_songs(directory: Path) -> bool:
    """Whether songs are planned in ``directory``."""
    return (directory / PLAN).is_file()


def is_run(directory: Path) -> bool:
    """Whether ``directory`` is a run, be it one that is only queued."""
    return any((directory / name).exists() for name in (CONFIG, METRICS, CHECKPOINTS, LOGS))


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps lies."""
    return run / CHECKPOINTS / f"step-{step:06d}"


def is_finished(state: Mapping[str, Any], step: int, steps: int) -> bool:
    """Whether a checkpoint of ``step`` with this ``state`` is all that ``steps`` ask for; they may have been
    added since the run was finished.
    """
    return bool(state.get("finished")) and (bool(state.get("stopped_early")) or step >= steps)

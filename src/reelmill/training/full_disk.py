"""What a person may remove from a run when its disk is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.durable import FullDiskError
from reelmill.errors import DamagedError
from reelmill.layout import CHECKPOINTS, STATE, checkpoint_path
from reelmill.room import free_bytes, size_text
from reelmill.training.checkpoints import checkpoint_steps


@contextlib.contextmanager
def advising(run: Path) -> Iterator[None]:
    """A full disk inside the block is told with what may go from ``run``, if that lies on it."""
    try:
        yield
    except FullDiskError as error:
        if error.advice or not _is_beside(Path(error.path), run):
            raise
        raise FullDiskError(error.path, _advice(run)) from error


def _advice(run: Path) -> str:
    old = [*_older_checkpoints(run), *sorted((run / CHECKPOINTS).glob("step-*.damaged-*"))]
    parts = [f" ({size_text(free_bytes(run))} are left)."]
    if old:
        listed = ", ".join(f"{path.name} ({size_text(_bytes(path))})" for path in old)
        parts.append(
            f" Not needed to go on, in {run / CHECKPOINTS}: {listed}; "
            "training.keep_checkpoints=1 keeps fewer."
        )
    parts.append(f" `reelmill clean {run}` removes what kills and damage left")
    return "".join(parts)


def _older_checkpoints(run: Path) -> list[Path]:
    """All but the newest and the best."""
    steps = checkpoint_steps(run)
    if not steps:
        return []
    state: Any = {}
    with contextlib.suppress(DamagedError):
        state = durable.read_json(checkpoint_path(run, steps[-1]) / STATE)
    best = state.get("best_step") if isinstance(state, dict) else None
    return [checkpoint_path(run, step) for step in steps[:-1] if step != best]


def _is_beside(path: Path, run: Path) -> bool:
    there = next((place for place in path.absolute().parents if place.exists()), Path("/"))
    return run.is_dir() and there.stat().st_dev == run.stat().st_dev


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

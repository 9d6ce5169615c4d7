"""The run directory: who holds it, whether a configuration may go on with it, what may be removed from it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelmill import config as configuration
from reelmill import durable
from reelmill.config import Config
from reelmill.durable import FullDiskError
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import CHECKPOINTS, CONFIG, STATE, checkpoint_path, is_run, is_songs
from reelmill.lock import Lock, held_lock
from reelmill.room import free_bytes, size_text
from reelmill.runs import checkpoint_steps
from reelmill.training.checkpoints import clean_temporaries

_log = logging.getLogger(__name__)

_SECTIONS = ("corpus", "model", "training")


@contextlib.contextmanager
def opened_run(config: Config, run: Path) -> Iterator[Lock]:
    """Hold ``run`` for training with ``config``, which is written into it; yield its lock.

    RequestError if it is something else than a run, in use, or was trained with settings that mean something
    else. ``training.steps`` alone may grow. A run without a checkpoint takes any settings.
    """
    _check_place(run)
    try:
        (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        durable.raise_explained(error, run)
    with held_lock(run) as lock:
        clean_temporaries(run)
        refuse_other_settings(config, run)
        durable.write_text(run / CONFIG, configuration.to_yaml(config))
        yield lock


def refuse_other_settings(config: Config, run: Path) -> None:
    """RequestError if ``run`` could not go on with ``config``; asked before a job is queued for it."""
    _check_place(run)
    path = run / CONFIG
    if path.is_file() and checkpoint_steps(run):
        _check_same(configuration.load(path), config, run)


def _check_place(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RequestError(f"{run}: a file, not a run directory")
    if is_songs(run):
        raise RequestError(f"{run}: a songs directory, not a run; choose another place for the run")
    found = [path.name for path in run.iterdir() if not path.name.startswith(".")] if run.is_dir() else []
    if found and not is_run(run):
        raise RequestError(f"{run}: holds {min(found)!r} and is not a run; choose an empty or new directory")


def _check_same(old: Config, new: Config, run: Path) -> None:
    wrong = [
        f"{key} was {before!r}, now {after!r}"
        for key, before, after in configuration.differences(old, new, _SECTIONS)
        if not (key == "training.steps" and after >= before)
    ]
    if wrong:
        only_raised = "; training.steps may only be raised" if "training.steps" in "".join(wrong) else ""
        raise RequestError(
            f"{run} was trained with other settings: {'; '.join(wrong)}{only_raised}. "
            "Use another run directory, or the settings it has"
        )
    before, after = old.training.steps, new.training.steps
    if after > before and new.training.schedule == "cosine":
        _log.warning(
            "%s: training.steps was %d, now %d: the steps made so far followed a cosine that ends at %d, "
            "those to come follow one that ends at %d, so the rate jumps, and the weights will not be those "
            "of a run of %d steps from its beginning",
            *(run, before, after, before, after, after),
        )


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

"""The run directory: whose it is, and whether the configuration at hand may go on with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from reelmill import config as configuration
from reelmill import durable
from reelmill.config import Config
from reelmill.errors import RequestError
from reelmill.layout import CHECKPOINTS, CONFIG, is_run, is_songs
from reelmill.training.checkpoints import checkpoint_steps, clean_temporaries
from reelmill.training.lock import held_lock

_SECTIONS = ("corpus", "model", "training")


@contextlib.contextmanager
def opened_run(config: Config, run: Path) -> Iterator[None]:
    """Hold ``run`` for training with ``config``, which is written into it.

    RequestError if it is something else than a run, in use, or was trained with settings that mean something
    else. ``training.steps`` alone may grow, if the schedule is constant: then the steps made so far are what
    they would have been. A run without a checkpoint takes any settings.
    """
    _check_place(run)
    try:
        (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        durable.raise_explained(error, run)
    with held_lock(run):
        clean_temporaries(run)
        refuse_other_settings(config, run)
        durable.write_text(run / CONFIG, configuration.to_yaml(config))
        yield


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
        if not (key == "training.steps" and new.training.schedule == "constant" and after >= before)
    ]
    if wrong:
        raise RequestError(
            f"{run} was trained with other settings: {'; '.join(wrong)}. "
            "Use another run directory, or the settings it has"
        )

"""A run on disk: find its checkpoints, verify and load them (``training.checkpoints`` writes them).

    RUN/checkpoints/step-000100/{model.safetensors, optimizer.pt, state.json, manifest.json}

A folder made for the hub (``reelmill.hub``) counts as a run with one checkpoint, which is the folder itself.

Weights are safetensors; ``optimizer.pt`` is read with ``weights_only=True``: nothing in a file is executed.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reelmill import config, durable
from reelmill.config import Config
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import CHECKPOINTS, CONFIG, STATE, checkpoint_path
from reelmill.model import VOCABULARY, WEIGHTS, TrainedModel

_log = logging.getLogger(__name__)

OPTIMIZER, TEST_TUNES = "optimizer.pt", "test.parquet"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files agree with its manifest. ``state`` is the content of state.json."""

    directory: Path
    step: int
    state: dict[str, Any]

    @property
    def name(self) -> str:
        return checkpoint_path(Path(), self.step).name


def checkpoint_steps(run: Path) -> list[int]:
    """The steps of the checkpoints there are, in order, good or not."""
    found = (_NAME.fullmatch(path.name) for path in (run / CHECKPOINTS).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def verified(run: Path, step: int) -> Checkpoint:
    """The checkpoint of ``step``; DamagedError names the file that is missing or altered."""
    path = checkpoint_path(run, step)
    if not path.is_dir():
        raise DamagedError(f"{path}: missing")
    manifest = durable.verify_directory(path)
    missing = {WEIGHTS, OPTIMIZER, STATE} - manifest["files"].keys()
    if missing:
        raise DamagedError(f"{path / durable.MANIFEST}: does not list {min(missing)}")
    state = durable.read_json(path / STATE)
    if not isinstance(state, dict) or state.get("step") != step:
        raise DamagedError(f"{path / STATE}: not the state after step {step}")
    return Checkpoint(path, step, state)


def newest_intact(run: Path, set_aside: bool = False) -> Checkpoint | None:
    """The newest checkpoint that is intact, None if there is none; each damaged one is named in the log.

    With ``set_aside`` a damaged one is renamed to step-….damaged-N, out of the way.
    """
    for step in reversed(checkpoint_steps(run)):
        try:
            return verified(run, step)
        except DamagedError as error:
            aside = _set_aside(checkpoint_path(run, step)) if set_aside else None
            where = f"set aside as {aside.name}; " if aside else ""
            _log.warning("damaged checkpoint: %s; %sthe one before is used", error, where)
    return None


def find_checkpoint(run: Path, name: str | None = None) -> Checkpoint:
    """The checkpoint ``name``: "best", "last", "step-000100" or "100"; None is the best, else the last.

    Raises RequestError if there is no such checkpoint, DamagedError if one named by step is not intact.
    """
    if not run.is_dir():
        raise RequestError(f"{run}: no such run directory")
    if (run / WEIGHTS).is_file() and (run / STATE).is_file():
        return _of_the_hub(run, name)
    if name is None or name in ("best", "last"):
        newest = newest_intact(run)
        if newest is None:
            raise RequestError(f"{run}: no checkpoint there yet; `reelmill train` makes them")
        return newest if name == "last" else _best(run, newest)
    steps = checkpoint_steps(run)
    digits = name.removeprefix("step-")
    if not digits.isdigit() or int(digits) not in steps:
        raise RequestError(f"{run}: no checkpoint {name!r}; there are best, last, {_listed(steps)}")
    return verified(run, int(digits))


def _of_the_hub(folder: Path, name: str | None) -> Checkpoint:
    state = durable.read_json(folder / STATE)
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise DamagedError(f"{folder / STATE}: not the state of a model")
    only = Checkpoint(folder, state["step"], state)
    if name not in (None, "best", "last", only.name):
        raise RequestError(f"{folder}: no checkpoint {name!r}; it has {only.name} alone")
    return only


def _best(run: Path, newest: Checkpoint) -> Checkpoint:
    best = newest.state.get("best_step")
    if best is None or best == newest.step:
        return newest
    try:
        return verified(run, best)
    except DamagedError as error:
        _log.warning("the best checkpoint is damaged: %s; %s is used", error, newest.name)
        return newest


def _listed(steps: list[int]) -> str:
    return ", ".join(f"step-{step:06d}" for step in steps) or "and no other"


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    durable.sync(path.parent)
    return aside


def run_config(run: Path) -> Config:
    """The configuration of a run; RequestError if ``run`` is not a run directory."""
    path = run / CONFIG
    if not path.is_file():
        raise RequestError(f"{run}: not a run directory (it has no {CONFIG}); `reelmill train` makes one")
    return config.load(path)


def load_model(run: Path, checkpoint: str | None = None, device: str | torch.device = "cpu") -> TrainedModel:
    """The model of a checkpoint (see ``find_checkpoint``), on ``device``, in evaluation mode."""
    found = find_checkpoint(run, checkpoint)
    vocabulary = load_vocabulary(run, found)
    return TrainedModel.assemble(run_config(run).model, vocabulary, found.directory / WEIGHTS, device)


def load_vocabulary(run: Path, checkpoint: Checkpoint) -> Vocabulary:
    """The run's vocabulary; DamagedError unless it is the one that the checkpoint was trained with."""
    path = run / VOCABULARY
    expected = checkpoint.state.get("vocabulary_sha256")
    if not path.is_file():
        raise DamagedError(f"{path}: missing")
    if durable.sha256(path) != expected:
        raise DamagedError(f"{path}: not the vocabulary that {checkpoint.name} was trained with")
    return Vocabulary.load(path)


def read_tensors(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors of optimizer.pt, on the CPU; nothing in the file is executed."""
    path = checkpoint.directory / OPTIMIZER
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{path}: not readable ({error})") from None
    if not isinstance(tensors, dict):
        raise DamagedError(f"{path}: not what a checkpoint holds")
    return tensors


def read_test_tunes(run: Path, checkpoint: Checkpoint) -> list[str]:
    """Return the tunes held out since the run began; raise DamagedError if they are not ``checkpoint``'s."""
    import pyarrow.parquet

    path = run / TEST_TUNES
    if not path.is_file():
        raise DamagedError(f"{path}: missing; a file of other tunes can be scored with --abc")
    if durable.sha256(path) != checkpoint.state.get("test_sha256"):
        raise DamagedError(f"{path}: not the tunes that were held out when {checkpoint.name} was trained")
    texts: list[str] = pyarrow.parquet.read_table(path, columns=["text"]).column("text").to_pylist()
    return texts

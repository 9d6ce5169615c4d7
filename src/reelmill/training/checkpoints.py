"""Checkpoints: complete and hashed, or not there at all.

    RUN/checkpoints/step-000100/{model.safetensors, optimizer.pt, state.json, manifest.json}

``optimizer.pt`` holds all tensors besides the weights, and is read with ``weights_only=True``. The training
loop waits only while tensors are copied; a thread writes them, then removes checkpoints no longer wanted.
"""

from __future__ import annotations

import io
import logging
import pickle
import re
import shutil
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from reelmill import config, durable
from reelmill.config import Config
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import CHECKPOINTS, CONFIG, METRICS, STATE, checkpoint_path
from reelmill.model import VOCABULARY, WEIGHTS, TrainedModel

_log = logging.getLogger(__name__)

OPTIMIZER = "optimizer.pt"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files agree with its manifest. ``state`` is the content of state.json."""

    directory: Path
    step: int
    state: dict[str, Any]

    @property
    def name(self) -> str:
        return self.directory.name


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint is written from: tensors that nobody changes any more, on the CPU."""

    step: int
    weights: Mapping[str, Tensor]
    tensors: Mapping[str, Any]
    state: Mapping[str, Any]


def copied(value: Any) -> Any:
    """``value`` with every tensor in its dicts, lists and tuples copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    return value


def checkpoint_steps(run: Path) -> list[int]:
    """The steps of the checkpoints there are, in order, good or not."""
    found = (_NAME.fullmatch(path.name) for path in (run / CHECKPOINTS).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def write_checkpoint(run: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint atomically, in place of any other of the same step."""
    path = checkpoint_path(run, snapshot.step)
    if path.exists():
        _discard(path)
    with durable.creating_directory(path, {"step": snapshot.step}) as partial:
        (partial / WEIGHTS).write_bytes(save(dict(snapshot.weights)))
        tensors = io.BytesIO()
        torch.save(dict(snapshot.tensors), tensors)
        (partial / OPTIMIZER).write_bytes(tensors.getbuffer())
        durable.write_json(partial / STATE, dict(snapshot.state))


def _discard(path: Path) -> None:
    doomed = durable.temporary(path)  # so that half a checkpoint never stands under its name
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_all_but(run: Path, keep: int, best: int | None) -> None:
    """Remove checkpoints except the last ``keep`` and that of step ``best``."""
    steps = checkpoint_steps(run)
    for step in steps[:-keep]:
        if step != best:
            _discard(checkpoint_path(run, step))


class CheckpointWriter:
    """Writes snapshots in the background, in order. After an error, none; ``wait`` raises it.

    Where the disk is slower than ``checkpoint_every`` wants it, the loop does not wait: a snapshot that has
    not been begun gives way to the next, unless it is the best. So no more than three are ever in memory
    (being written, best, newest), and a kill costs what the disk was behind. The metrics that a checkpoint
    counts on reach the disk before it.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.run, self.keep = run, keep
        self._waiting: list[tuple[Snapshot, int | None]] = []
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._warned = False

    @property
    def failed(self) -> bool:
        """Whether ``wait`` will raise."""
        return self._error is not None

    def submit(self, snapshot: Snapshot, best: int | None) -> None:
        """Have ``snapshot`` written, or one that is submitted later; ``best`` is the best step by now."""
        with self._changing:
            if self.failed:
                return
            waiting = [item for item in self._waiting if item[0].step == best != snapshot.step]
            self._warn_if_behind(len(self._waiting) - len(waiting))
            self._waiting = [*waiting, (snapshot, best)]
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="checkpoint")
                self._thread.start()

    def wait(self) -> None:
        """Return when nothing is left to write; raise what went wrong."""
        self.settle()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def settle(self) -> None:
        """Return when nothing is left to write, well or not."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _write_all(self) -> None:
        while True:
            with self._changing:
                if not self._waiting:
                    self._thread = None
                    return
                snapshot, best = self._waiting.pop(0)
            try:
                if (self.run / METRICS).exists():
                    durable.sync(self.run / METRICS)
                write_checkpoint(self.run, snapshot)
                remove_all_but(self.run, self.keep, best)
            except BaseException as error:
                with self._changing:
                    self._error, self._waiting = error, []

    def _warn_if_behind(self, dropped: int) -> None:
        if dropped and not self._warned:
            self._warned = True
            _log.warning(
                "%s: the disk takes longer for a checkpoint than training.checkpoint_every steps; "
                "some are left out",
                self.run,
            )


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


def clean_temporaries(run: Path) -> None:
    """Remove what a killed writer left half done."""
    for path in [*run.glob(".*"), *(run / CHECKPOINTS).glob(".*")]:
        if durable.is_temporary(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


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


def run_config(run: Path) -> Config:
    """The configuration of a run; RequestError if ``run`` is not a run directory."""
    path = run / CONFIG
    if not path.is_file():
        raise RequestError(f"{run}: not a run directory (it has no {CONFIG}); `reelmill train` makes one")
    return config.load(path)


def find_checkpoint(run: Path, name: str | None = None) -> Checkpoint:
    """The checkpoint ``name``: "best", "last", "step-000100" or "100"; None is the best, else the last.

    Raises RequestError if there is no such checkpoint, DamagedError if one named by step is not intact.
    """
    if not run.is_dir():
        raise RequestError(f"{run}: no such run directory")
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

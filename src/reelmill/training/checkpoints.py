"""Checkpoints, written: complete and hashed, or not there at all (``reelmill.runs`` reads them).

The training loop waits only while tensors are copied; a thread writes them, then removes checkpoints no
longer wanted.
"""

from __future__ import annotations

import io
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from reelmill import durable
from reelmill.layout import CHECKPOINTS, METRICS, STATE, checkpoint_path
from reelmill.model import WEIGHTS
from reelmill.runs import OPTIMIZER, checkpoint_steps

_log = logging.getLogger(__name__)


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
    counts on reach the disk before it. ``check`` is called before each and raises what must keep it from
    being written.
    """

    def __init__(self, run: Path, keep: int, check: Callable[[], None] = lambda: None) -> None:
        self.run, self.keep, self._check = run, keep, check
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
                self._check()
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


def clean_temporaries(run: Path) -> None:
    """Remove what a killed writer left half done."""
    for path in [*run.glob(".*"), *(run / CHECKPOINTS).glob(".*")]:
        if durable.is_temporary(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

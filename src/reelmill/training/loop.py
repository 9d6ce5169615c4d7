"""The training loop.

``train`` takes a run directory from wherever it is to the end, or to a wish to stop: every step is a function
of (seed, step) and of the checkpoint before it. Accelerate gives device, processes and precision; batches,
the sum of gradients and the schedule are our own, because they must not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reelmill import durable
from reelmill.config import Config
from reelmill.errors import RequestError
from reelmill.heap import keep_freed_memory
from reelmill.layout import STATE, checkpoint_path
from reelmill.model import (
    VOCABULARY,
    WEIGHTS,
    DropoutKey,
    State,
    TrainedModel,
    load_weights,
    new_network,
    weights_of,
)
from reelmill.training.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    Snapshot,
    copied,
    newest_intact,
    read_tensors,
)
from reelmill.training.data import TrainingData, open_data, prepare_data
from reelmill.training.exchange import Exchange
from reelmill.training.full_disk import advising
from reelmill.training.gradients import OrderedSum, shares
from reelmill.training.held_out import TEST_TUNES
from reelmill.training.plan import IGNORED, Batch, Streams, make_plan
from reelmill.training.progress import Progress, TrainingResult
from reelmill.training.run_directory import opened_run
from reelmill.training.schedule import learning_rate
from reelmill.training.settings import TrainingSettings
from reelmill.training.stopping import Stopped, StopRequest
from reelmill.training.training_log import TrainingLog, Values
from reelmill.training.validation import Validation
from reelmill.training.vectors import packed, unpack
from reelmill.training.window import Window
from reelmill.training.world import ELSEWHERE, World, joined_world

_log = logging.getLogger(__name__)


def train(config: Config, run: Path, deadline: float | None = None) -> TrainingResult:
    """Train in ``run`` until it is finished, or until a signal or the ``deadline`` asks for a stop.

    Goes on from the newest intact checkpoint, whatever the number of processes was. ``deadline`` is in
    seconds since 1970. Raises RequestError for settings that cannot be, for a directory that is not a run's,
    is in use or belongs to other settings, for a full disk, and where the loss is no number any more.
    """
    _check(config.training)
    with (
        StopRequest(deadline) as stop,
        joined_world(config.training.precision) as world,
        contextlib.ExitStack() as held,
        advising(run),
    ):
        if world.size > config.training.batch_size:
            raise RequestError(
                f"training.batch_size = {config.training.batch_size} rows are too few for {world.size} "
                "processes; start fewer of them"
            )

        def open_run() -> int | None:
            with advising(run):
                held.enter_context(opened_run(config, run))
                newest = newest_intact(run, set_aside=True)
                return newest.step if newest else None

        def prepare() -> dict[str, str]:
            with advising(run):
                return prepare_data(config, run, checkpoint)

        step = world.on_first(open_run)
        checkpoint = None if step is None else _trusted(run, step)
        progress = Progress.of(checkpoint) if checkpoint else Progress()
        if progress.is_end(config.training):
            return progress.result()
        try:
            directories = world.on_first(prepare, stop)
        except Stopped:
            return progress.result(stop.reason or ELSEWHERE)
        trainer = Trainer(config, run, world, stop, open_data(run, directories), checkpoint)
        return trainer.run_to_end()


class Trainer:
    """One process's part in training: the network, its optimizer and the place in the plan."""

    def __init__(
        self,
        config: Config,
        run: Path,
        world: World,
        stop: StopRequest,
        data: TrainingData,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.config, self.settings = config, config.training
        self.run, self.world, self.stop = run, world, stop
        self.plan = make_plan(self.settings, data.train)
        self.vocabulary = data.vocabulary
        self.validation = Validation(data.validation)
        self.pieces = shares(self.settings.batch_size, max(self.settings.accumulation, world.size))
        self.held = shares(len(self.pieces), world.size)
        self.rows = [range(self.pieces[held[0]].start, self.pieces[held[-1]].stop) for held in self.held]
        self._warn_if_inexact()
        self.exchange = Exchange(self.held, world.rank, world.group, world.device)

        self.network = new_network(config.model, data.vocabulary.size, self.settings.seed)
        if checkpoint:
            load_weights(self.network, checkpoint.directory / WEIGHTS)
        self.network.to(world.device).train()
        if world.device.type == "cpu":
            keep_freed_memory()
        self.parameters = list(self.network.parameters())
        self.optimizer = world.accelerator.prepare_optimizer(
            torch.optim.AdamW(
                self.parameters,
                lr=self.settings.learning_rate,
                weight_decay=self.settings.weight_decay,  # 0: the same as Adam
                fused=world.device.type in ("cpu", "cuda"),
            )
        )
        self.carried: State | None = None
        if self.plan.carries:
            self.carried = self.network.zero_state(len(self.rows[world.rank]))
        self.progress = Progress()
        if checkpoint:
            self._restore(checkpoint)
        else:
            self.progress.test_sha256 = durable.sha256(run / TEST_TUNES)
        self.progress.vocabulary_sha256 = durable.sha256(run / VOCABULARY)
        self.progress.data_sha256 = data.train.sha256
        self.progress.world_size = world.size
        self.window = Window(self.progress.window_loss, self.progress.window_characters, world.device)
        self.saved_state = asdict(self.progress)

        # Where reading the last step's vector costs nothing; on a GPU it would mean to wait for the step.
        self.flags_ride = world.size > 1 and world.device.type == "cpu"
        self.stop_agreed: bool | None = None
        self.writer = CheckpointWriter(run, self.settings.keep_checkpoints)
        self.log: TrainingLog | None = None
        if world.is_first:
            self.log = TrainingLog(config, run, self.progress.step, self.progress.logged)

    def run_to_end(self) -> TrainingResult:
        """Make turn after turn, save what there is, and wait until it is written."""
        try:
            while self.turn():
                pass
            self.save()
            self.world.on_first(self._wait_until_written)
        finally:
            self.writer.settle()  # before another may train here
            if self.log is not None:
                self.log.close(self.progress.finished)
        stopped_by = "" if self.progress.finished else self.stop.reason or ELSEWHERE
        return self.progress.result(stopped_by)

    def turn(self) -> bool:
        """Account for the last step, save it, ask whether to stop, make the next; False if there is none."""
        if not self.account():
            return False
        if self.checkpoint_is_due():
            self.save()
        if self.progress.finished or self.is_to_stop():
            return False
        self.update()
        return True

    def is_to_stop(self) -> bool:
        """Whether any process wants to stop, the same in all. Where the wish travels with the gradients it is
        one of before the last step.
        """
        return self.world.any(self.wants_to_stop) if self.stop_agreed is None else self.stop_agreed

    @property
    def wants_to_stop(self) -> bool:
        """Whether this process does."""
        return bool(self.stop.reason) or self.writer.failed

    def update(self) -> None:
        """One step: the gradient of the global batch, and the optimizer."""
        step = self.progress.step
        batch = self.plan.batch(step)
        characters = max(1, batch.characters)
        total = OrderedSum()
        for piece in self.held[self.world.rank]:
            total.add((0, piece), self.gradient(batch, self.pieces[piece], characters))
        loss, wishes = unpack(self.exchange(total), self.parameters)
        if self.flags_ride:
            self.stop_agreed = bool(wishes.item())
        if self.settings.clip_norm:
            self.world.accelerator.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        self.optimizer.step()
        self.progress.step += 1
        self.window.add(loss, characters)

    def gradient(self, batch: Batch, rows: range, characters: int) -> Tensor:
        """One vector: the gradient of the rows' part of the loss, that part, a wish to stop (``packed``).

        The loss of a step is the sum over characters divided by their number in the global batch.
        """
        device, first = self.world.device, self.rows[self.world.rank].start
        inputs = torch.from_numpy(batch.inputs[rows.start : rows.stop]).to(device, non_blocking=True)
        targets = torch.from_numpy(batch.targets[rows.start : rows.stop]).to(device, non_blocking=True)
        mine = slice(rows.start - first, rows.stop - first)
        state = None
        if self.carried is not None:
            state = (self.carried[0][:, mine].contiguous(), self.carried[1][:, mine].contiguous())
        key = DropoutKey(self.settings.seed, self.progress.step, np.array(rows))
        with self.world.accelerator.autocast():
            logits, state = self.network(inputs, state, key)
        losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        loss = losses / characters
        for parameter in self.parameters:
            parameter.grad = None
        self.world.accelerator.backward(loss)
        if self.carried is not None:
            for kept, after in zip(self.carried, state, strict=True):
                kept[:, mine] = after.detach()
        return packed(self.parameters, loss, self.flags_ride and self.wants_to_stop, self.world.size)

    def account(self) -> bool:
        """Evaluate if it is time, write the step's metrics; False if asked to stop before that was done."""
        progress, settings = self.progress, self.settings
        step = progress.step
        if progress.logged == step:
            return True
        last = step >= settings.steps
        values: Values = {}
        if self.validation and settings.evaluate_every and (last or step % settings.evaluate_every == 0):
            with self.window.paused():
                bits = self.evaluate()
            if bits is None:
                return False
            self._refuse_divergence(bits, "validation loss")
            progress.take_evaluation(bits, settings.patience)
            values = {"validation_bits_per_char": bits}
        if last or values or step % settings.log_every == 0:
            self._refuse_divergence(self.window.nats, "loss")
            values = {**self._means(), **values}
            if self.log is not None:
                self.log.write(step, values, progress.best_bits_per_char)
        if self.log is not None and settings.sample_every and step % settings.sample_every == 0:
            with self.window.paused():
                self.log.publish_song(TrainedModel(self.network, self.vocabulary, self.config.model), step)
        progress.logged = step
        progress.finished = progress.stopped_early or last
        return True

    def evaluate(self) -> float | None:
        """Bits per character of the validation tunes, equal in all processes; None if asked to stop."""
        return self.validation.bits_per_char(self.network, self.world, self.stop)

    def checkpoint_is_due(self) -> bool:
        """At every checkpoint_every-th step, at the end, and where the model is the best so far."""
        step = self.progress.step
        return step > 0 and (
            step % self.settings.checkpoint_every == 0
            or self.progress.finished
            or step == self.progress.best_step
        )

    def save(self) -> None:
        """Have a checkpoint written, unless the last one says the same."""
        self.progress.window_loss = self.window.nats
        self._refuse_divergence(self.progress.window_loss, "loss")
        self.progress.window_characters = self.window.characters
        state = asdict(self.progress)
        if state == self.saved_state:
            return
        carried = None
        if self.carried is not None:
            carried = [self.world.gather_rows(part, self.rows) for part in self.carried]
        self.saved_state = state
        if self.log is None:
            return
        scaler = self.world.accelerator.scaler
        tensors: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if carried is not None:
            tensors["carried"] = carried
        if scaler is not None:
            tensors["scaler"] = scaler.state_dict()
        self.writer.submit(
            Snapshot(self.progress.step, copied(weights_of(self.network)), copied(tensors), state),
            self.progress.best_step,
        )

    def _refuse_divergence(self, value: float, name: str) -> None:
        """RequestError, the same in all processes, where ``value`` is no number any more."""
        if not math.isfinite(value):
            raise RequestError(
                f"{self.run}: the {name} is {value} at step {self.progress.step}: training diverged, with "
                f"training.learning_rate = {self.settings.learning_rate}, training.clip_norm = "
                f"{self.settings.clip_norm} and training.precision = {self.settings.precision!r}. "
                "Train another run with a smaller rate or norm"
            )

    def _wait_until_written(self) -> None:
        with advising(self.run):
            self.writer.wait()

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.progress = Progress.of(checkpoint)
        self.progress.finished = False
        tensors = read_tensors(checkpoint)
        self.optimizer.load_state_dict(tensors["optimizer"])
        if self.carried is not None:
            rows = self.rows[self.world.rank]
            hidden, cell = (
                part[:, rows.start : rows.stop].to(self.world.device) for part in tensors["carried"]
            )
            self.carried = (hidden.contiguous(), cell.contiguous())
        if "scaler" in tensors and self.world.accelerator.scaler is not None:
            self.world.accelerator.scaler.load_state_dict(tensors["scaler"])

    def _means(self) -> Values:
        """The values of the current step's line of metrics; begins a new window."""
        step = self.progress.step - 1
        values: Values = {
            **self.window.close(),
            "learning_rate": learning_rate(self.settings, step),
            "batch": self.plan.batch(step).digest,
            "time": round(time.time(), 3),
        }
        if isinstance(self.plan, Streams):
            values["epoch"] = self.plan.epoch_of(step)
        return values

    def _warn_if_inexact(self) -> None:
        if self.world.is_first and self.world.size > self.settings.accumulation > 1:
            _log.warning(
                "%d processes cut the %d micro-batches further: weights will agree with those of another "
                "number of processes to rounding only",
                self.world.size,
                self.settings.accumulation,
            )


def _check(settings: TrainingSettings) -> None:
    if settings.accumulation > settings.batch_size:
        raise RequestError(
            f"training.accumulation = {settings.accumulation} cannot cut "
            f"training.batch_size = {settings.batch_size} rows"
        )
    if settings.warmup_steps > settings.steps:
        raise RequestError(
            f"training.warmup_steps = {settings.warmup_steps} is more than training.steps = {settings.steps}"
        )
    if settings.patience and not settings.evaluate_every:
        raise RequestError("training.patience needs evaluations; set training.evaluate_every too")


def _trusted(run: Path, step: int) -> Checkpoint:
    """A checkpoint that the first process has verified."""
    path = checkpoint_path(run, step)
    return Checkpoint(path, step, durable.read_json(path / STATE))

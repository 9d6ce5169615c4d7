"""The training loop.

``train`` takes a run directory from wherever it is to the end, or to a wish to stop: every step is a function
of (seed, step) and of the checkpoint before it. Accelerate gives device, processes and precision; batches,
the sum of gradients and the schedule are our own, because they must not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from reelmill import config as configuration
from reelmill import durable
from reelmill.config import Config
from reelmill.errors import RequestError
from reelmill.evaluation import batches_by_length, tunes_bits
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
from reelmill.tracking.comet import Publisher
from reelmill.tracking.metrics import MetricsLog
from reelmill.training.checkpoints import (
    Checkpoint,
    CheckpointWriter,
    Snapshot,
    checkpoint_path,
    copied,
    newest_intact,
    read_tensors,
)
from reelmill.training.data import TrainingData, open_data, prepare_data
from reelmill.training.encoded import EncodedTunes
from reelmill.training.gradients import OrderedSum, exchange, padded, shares
from reelmill.training.plan import IGNORED, Batch, Streams, make_plan
from reelmill.training.run_directory import METRICS, opened_run
from reelmill.training.samples import sample_song
from reelmill.training.schedule import learning_rate
from reelmill.training.settings import TrainingSettings
from reelmill.training.stopping import StopRequest
from reelmill.training.world import World, joined_world

_log = logging.getLogger(__name__)

_ELSEWHERE = "another process"  # asked for the stop


@dataclass(frozen=True)
class TrainingResult:
    """How far a run has come. ``stopped_by``: a signal's name, "deadline", or "" if the run is finished."""

    step: int
    finished: bool
    stopped_by: str = ""
    best_step: int | None = None
    best_bits_per_char: float | None = None


@dataclass
class Progress:
    """What a run knows besides its tensors; in a checkpoint this is state.json."""

    step: int = 0  # updates made
    logged: int = 0  # the last step whose evaluation and metrics are done
    window_loss: float = 0.0  # nats since the last line of metrics
    window_characters: int = 0
    best_step: int | None = None
    best_bits_per_char: float | None = None
    evaluations_without_better: int = 0
    finished: bool = False
    stopped_early: bool = False
    vocabulary_sha256: str = ""
    data_sha256: str = ""
    world_size: int = 1

    def result(self, stopped_by: str = "") -> TrainingResult:
        return TrainingResult(self.step, self.finished, stopped_by, self.best_step, self.best_bits_per_char)


def train(config: Config, run: Path, deadline: float | None = None) -> TrainingResult:
    """Train in ``run`` until it is finished, or until a signal or the ``deadline`` asks for a stop.

    Goes on from the newest intact checkpoint, whatever the number of processes was. ``deadline`` is in
    seconds since 1970. Raises RequestError for settings that cannot be, for a directory that is not a run's,
    is in use or belongs to other settings, and for a full disk.
    """
    _check(config.training)
    with (
        StopRequest(deadline) as stop,
        joined_world(config.training.precision) as world,
        contextlib.ExitStack() as held,
    ):
        if world.size > config.training.batch_size:
            raise RequestError(
                f"training.batch_size = {config.training.batch_size} rows are too few for {world.size} "
                "processes; start fewer of them"
            )

        def open_run() -> int | None:
            held.enter_context(opened_run(config, run))
            newest = newest_intact(run, set_aside=True)
            return newest.step if newest else None

        step = world.on_first(open_run)
        checkpoint = None if step is None else _trusted(run, step)
        if checkpoint and _is_finished(checkpoint, config.training):
            return _progress(checkpoint).result()
        directories = world.on_first(lambda: prepare_data(config, run, checkpoint))
        if world.any(bool(stop.reason)):
            return (_progress(checkpoint) if checkpoint else Progress()).result(
                stop.reason or "another process"
            )
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
        self.validation = _tunes(data.validation)
        self.pieces = shares(self.settings.batch_size, max(self.settings.accumulation, world.size))
        self.held = shares(len(self.pieces), world.size)
        self.rows = [range(self.pieces[held[0]].start, self.pieces[held[-1]].stop) for held in self.held]
        self._warn_if_inexact()

        self.network = new_network(config.model, data.vocabulary.size, self.settings.seed)
        if checkpoint:
            load_weights(self.network, checkpoint.directory / WEIGHTS)
        self.network.to(world.device).train()
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
        self.progress.vocabulary_sha256 = durable.sha256(run / VOCABULARY)
        self.progress.data_sha256 = data.train.sha256
        self.progress.world_size = world.size
        self.window_loss = torch.tensor(self.progress.window_loss, dtype=torch.float64, device=world.device)
        self.saved_state = asdict(self.progress)

        self.metrics = MetricsLog(run / METRICS)
        self.writer = CheckpointWriter(run, self.settings.keep_checkpoints)
        self.publisher: Publisher | None = None
        if world.is_first:
            self.metrics.cut_back(self.progress.logged)
            self.publisher = Publisher(run, config.tracking, configuration.to_dict(config))
        self.bar = _bar(self.settings.steps, self.progress.step, world.is_first)
        # When the clock was started, and how many characters of the window had been trained on by then.
        self.timed_from = (time.perf_counter(), self.progress.window_characters)

    def run_to_end(self) -> TrainingResult:
        """The loop: account for a step, save it, ask whether to stop, make the next."""
        try:
            while True:
                accounted = self.account()
                if not accounted:
                    break
                if self.checkpoint_is_due():
                    self.save()
                if self.progress.finished or self.world.any(bool(self.stop.reason) or self.writer.failed):
                    break
                self.update()
            self.save()
            self.world.on_first(self.writer.wait)
        finally:
            self._close()
        stopped_by = "" if self.progress.finished else self.stop.reason or _ELSEWHERE
        return self.progress.result(stopped_by)

    def update(self) -> None:
        """One step: the gradient of the global batch, and the optimizer."""
        step = self.progress.step
        batch = self.plan.batch(step)
        characters = max(1, batch.characters)
        total = OrderedSum()
        for piece in self.held[self.world.rank]:
            total.add((0, piece), self.gradient(batch, self.pieces[piece], characters))
        gradient = exchange(total, self.held, self.world.rank)
        loss = self._set_gradient(gradient)
        if self.settings.clip_norm:
            self.world.accelerator.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        self.optimizer.step()
        self.progress.step += 1
        self.window_loss += loss.double() * characters
        self.progress.window_characters += characters

    def gradient(self, batch: Batch, rows: range, characters: int) -> Tensor:
        """One vector: the gradient of the rows' part of the loss, that part itself, and padding.

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
        parts = [_gradient_of(parameter).flatten() for parameter in self.parameters]
        length = sum(map(len, parts)) + 1
        padding = loss.new_zeros(padded(length, self.world.size) - length)
        return torch.cat([*parts, loss.detach().reshape(1), padding])

    def account(self) -> bool:
        """Evaluate if it is time, write the step's metrics; False if asked to stop before that was done."""
        progress, settings = self.progress, self.settings
        step = progress.step
        if progress.logged == step:
            return True
        last = step >= settings.steps
        values: dict[str, float | int | str] = {}
        if self.validation and settings.evaluate_every and (last or step % settings.evaluate_every == 0):
            before = time.perf_counter()
            bits = self.evaluate()
            if bits is None:
                return False
            self._take_evaluation(bits)
            values = {"validation_bits_per_char": bits}
            self.timed_from = (self.timed_from[0] + time.perf_counter() - before, self.timed_from[1])
        if last or values or step % settings.log_every == 0:
            self._log({**self._window(), **values})
        if settings.sample_every and step % settings.sample_every == 0:
            self._publish_song()
        progress.logged = step
        progress.finished = progress.stopped_early or last
        return True

    def evaluate(self) -> float | None:
        """Bits per character of the validation tunes, equal in all processes; None if asked to stop."""
        batches = batches_by_length(self.validation)
        bits = np.zeros(len(batches))
        for begin in range(0, len(batches), self.world.size):
            if self.world.any(bool(self.stop.reason)):
                return None
            index = begin + self.world.rank
            if index < len(batches):
                bits[index] = tunes_bits(self.network, batches[index])
        characters = sum(len(tune) - 1 for tune in self.validation)
        return float(self.world.sum(bits).sum() / characters)

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
        self.progress.window_loss = float(self.window_loss.item())
        state = asdict(self.progress)
        if state == self.saved_state:
            return
        carried = None
        if self.carried is not None:
            carried = [self.world.gather_rows(part, self.rows) for part in self.carried]
        self.saved_state = state
        if not self.world.is_first:
            return
        scaler = self.world.accelerator.scaler
        tensors: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if carried is not None:
            tensors["carried"] = carried
        if scaler is not None:
            tensors["scaler"] = scaler.state_dict()
        self.metrics.sync()
        self.writer.submit(
            Snapshot(self.progress.step, copied(weights_of(self.network)), copied(tensors), state),
            self.progress.best_step,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.progress = _progress(checkpoint)
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

    def _set_gradient(self, vector: Tensor) -> Tensor:
        """Give each parameter its part of ``vector``; returns the loss, which stands behind them."""
        begin = 0
        for parameter in self.parameters:
            parameter.grad = vector[begin : begin + parameter.numel()].view_as(parameter)
            begin += parameter.numel()
        return vector[begin]

    def _take_evaluation(self, bits: float) -> None:
        progress = self.progress
        if progress.best_bits_per_char is None or bits < progress.best_bits_per_char:
            progress.best_step, progress.best_bits_per_char = progress.step, bits
            progress.evaluations_without_better = 0
        else:
            progress.evaluations_without_better += 1
        patience = self.settings.patience
        progress.stopped_early = bool(patience) and progress.evaluations_without_better >= patience

    def _window(self) -> dict[str, float | int | str]:
        """The means since the last line of metrics; begins a new window."""
        progress = self.progress
        loss = float(self.window_loss.item()) / max(1, progress.window_characters)
        now = time.perf_counter()
        since, characters_before = self.timed_from
        rate = (progress.window_characters - characters_before) / max(1e-9, now - since)
        batch = self.plan.batch(progress.step - 1)
        values: dict[str, float | int | str] = {
            "loss": loss,
            "bits_per_char": loss / math.log(2),
            "learning_rate": learning_rate(self.settings, progress.step - 1),
            "batch": batch.digest,
            "chars_per_second": round(rate, 1),
            "time": round(time.time(), 3),
        }
        if isinstance(self.plan, Streams):
            values["epoch"] = self.plan.epoch_of(progress.step - 1)
        self.window_loss.zero_()
        progress.window_characters = 0
        self.timed_from = (now, 0)
        return values

    def _log(self, values: dict[str, float | int | str]) -> None:
        if not self.world.is_first:
            return
        self.metrics.append(self.progress.step, kind="train", **values)
        if self.publisher is not None:
            self.publisher.publish()
        shown = {
            "loss": values["loss"],
            "bits/char": values["bits_per_char"],
            "chars/s": values["chars_per_second"],
        }
        if self.progress.best_bits_per_char is not None:
            shown["best"] = self.progress.best_bits_per_char
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(self.progress.step - self.bar.n)

    def _publish_song(self) -> None:
        if self.publisher is None:
            return
        model = TrainedModel(self.network, self.vocabulary, self.config.model)
        before, step = time.perf_counter(), self.progress.step
        abc, samples = sample_song(model, self.config, step)
        self.publisher.log_song(f"sample-{step:06d}", abc, samples, step, self.config.audio.sample_rate)
        self.timed_from = (self.timed_from[0] + time.perf_counter() - before, self.timed_from[1])

    def _warn_if_inexact(self) -> None:
        if self.world.is_first and self.world.size > self.settings.accumulation > 1:
            _log.warning(
                "%d processes cut the %d micro-batches further: weights will agree with those of another "
                "number of processes to rounding only",
                self.world.size,
                self.settings.accumulation,
            )

    def _close(self) -> None:
        self.bar.close()
        self.metrics.close()
        if self.publisher is not None:
            # A stop is followed by a kill; what is not sent now is sent by the next start.
            finished = self.progress.finished
            self.publisher.close(timeout=60 if finished else 10, archive=finished)


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
    return Checkpoint(path, step, durable.read_json(path / "state.json"))


def _progress(checkpoint: Checkpoint) -> Progress:
    names = Progress.__dataclass_fields__
    return Progress(**{name: value for name, value in checkpoint.state.items() if name in names})


def _is_finished(checkpoint: Checkpoint, settings: TrainingSettings) -> bool:
    return bool(checkpoint.state["finished"]) and (
        bool(checkpoint.state["stopped_early"]) or checkpoint.step >= settings.steps
    )


def _tunes(encoded: EncodedTunes | None) -> list[np.ndarray]:
    if encoded is None:
        return []
    bounds = encoded.bounds
    return [
        np.asarray(encoded.characters[bounds[text] : bounds[text + 1]], dtype=np.int64)
        for text in encoded.tunes[:-1]
    ]


def _gradient_of(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _bar(steps: int, done: int, shown: bool) -> Any:
    watched = sys.stderr.isatty()
    return tqdm(
        total=steps,
        initial=done,
        desc="Training",
        unit="step",
        disable=not shown,
        mininterval=0.5 if watched else 30,
        dynamic_ncols=True,
    )

"""The training loop.

``train`` takes a run directory from wherever it is to the end, or to a wish to stop. Accelerate gives device,
processes and precision, and prepares network and optimizer (DistributedDataParallel where there are several
processes). Every step is a function of (seed, step) and of the checkpoint before it.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from reelmill import durable
from reelmill.config import Config
from reelmill.errors import RequestError
from reelmill.heap import keep_freed_memory
from reelmill.layout import STATE, TRACKERS, checkpoint_path
from reelmill.lock import Lock
from reelmill.model import (
    VOCABULARY,
    WEIGHTS,
    State,
    TrainedModel,
    load_weights,
    new_network,
    weights_of,
)
from reelmill.runs import TEST_TUNES, Checkpoint, checkpoint_steps, newest_intact, read_tensors
from reelmill.training.batches import Batch, BatchBuilder, MicroBatch
from reelmill.training.checkpoints import CheckpointWriter, Snapshot, copied
from reelmill.training.data import TrainingData, initial_model, open_data, prepare_data
from reelmill.training.exact import ExactSum
from reelmill.training.processes import (
    ELSEWHERE,
    Accelerator,
    StopVote,
    gather_rows,
    joined_processes,
    on_main_process,
    said_once,
)
from reelmill.training.progress import Progress, TrainingResult, Window
from reelmill.training.run_directory import advising, opened_run
from reelmill.training.schedule import IGNORED, Facts, batch_schedule, learning_rate, shares
from reelmill.training.settings import TrainingSettings
from reelmill.training.stopping import Stopped, StopRequest
from reelmill.training.training_log import TrainingLog, Values, first_line, refuse_unknown_trackers
from reelmill.training.validation import Validation


def train(config: Config, run: Path, deadline: float | None = None) -> TrainingResult:
    """Train in ``run`` until it is finished, or until a signal or the ``deadline`` asks for a stop.

    Goes on from the newest intact checkpoint. ``deadline`` is in seconds since 1970. Raises RequestError for
    settings that cannot be, for a directory that is not a run's, is in use or belongs to other settings, for
    a full disk, and where the loss is no number any more; IncompleteError where another process is lost.
    """
    with said_once():
        _check(config)
        if config.training.init_from and not checkpoint_steps(run):
            initial_model(config)  # refused before anything is made
    with (
        StopRequest(deadline) as stop,
        joined_processes(config.training, config.tracking.also, str(run / TRACKERS)) as accelerator,
        contextlib.ExitStack() as held,
        advising(run),
    ):
        locks: list[Lock] = []  # the main process's

        def open_run() -> int | None:
            with advising(run):
                locks.append(held.enter_context(opened_run(config, run)))
                newest = newest_intact(run, set_aside=True)
                return newest.step if newest else None

        def prepare() -> dict[str, str]:
            with advising(run):
                return prepare_data(config, run, checkpoint)

        step = on_main_process(accelerator, open_run)
        checkpoint = None if step is None else _trusted(run, step)
        progress = Progress.of(checkpoint) if checkpoint else Progress()
        if progress.is_end(config.training):
            return progress.result()
        try:
            directories = on_main_process(accelerator, prepare, stop)
        except Stopped:
            return progress.result(stop.reason or ELSEWHERE)
        data = open_data(run, directories)
        return Trainer(config, run, accelerator, stop, data, checkpoint, *locks).run_to_end()


class Trainer:
    """One process's part in training: the network, its optimizer and the place in the schedule."""

    def __init__(
        self,
        config: Config,
        run: Path,
        accelerator: Accelerator,
        stop: StopRequest,
        data: TrainingData,
        checkpoint: Checkpoint | None,
        lock: Lock | None = None,
    ) -> None:
        self.config, self.settings = config, config.training
        self.run, self.accelerator, self.stop = run, accelerator, stop
        self.vocabulary = data.vocabulary
        self.build(checkpoint)
        self.share_batches(data)
        self.resume(checkpoint, data)
        self.validation = Validation(data.validation)
        self.vote = StopVote(accelerator)
        still_ours = lock.refuse_if_lost if lock else lambda: None
        self.writer = CheckpointWriter(run, self.settings.keep_checkpoints, still_ours)
        self.facts: Facts | None = None  # of the last step's batch
        self.log: TrainingLog | None = None
        if accelerator.is_main_process:
            step, logged = self.progress.step, self.progress.logged
            self.log = TrainingLog(config, run, accelerator, step, logged, self.opening(), still_ours)

    def build(self, checkpoint: Checkpoint | None) -> None:
        """Make the network and its optimizer, the same in every process, and have Accelerate prepare them."""
        self.network = new_network(self.config.model, self.vocabulary, self.settings.seed)
        if checkpoint:
            load_weights(self.network, checkpoint.directory / WEIGHTS)
        elif self.settings.init_from:
            self.network.load_state_dict(initial_model(self.config).network.state_dict())
        device = self.accelerator.device.type
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,  # 0: the same as Adam
            fused=device in ("cpu", "cuda"),
        )
        self.model, self.optimizer = self.accelerator.prepare(self.network.train(), optimizer)
        self.parameters = list(self.network.parameters())
        self.together = isinstance(self.model, DistributedDataParallel)
        if device == "cpu":
            keep_freed_memory()

    def share_batches(self, data: TrainingData) -> None:
        """Cut the global batch into micro-batches, and say which rows of it each process trains on."""
        size, mine = self.accelerator.num_processes, self.accelerator.process_index
        pieces = shares(self.settings.batch_size, micro_batches(self.settings, size))
        held = [pieces[share.start : share.stop] for share in shares(len(pieces), size)]
        self.rows = [range(share[0].start, share[-1].stop) for share in held]
        self.schedule = batch_schedule(self.settings, data.train)
        pinned = self.accelerator.device.type != "cpu"
        self.builder = BatchBuilder(
            self.schedule, self.config.model, self.settings.seed, held[mine], self.network.reader, pinned
        )
        self.exact = ExactSum(len(pieces)) if self.settings.exact else None
        if self.exact and self.together:
            self.model.register_comm_hook(None, self.exact.hook)

    def resume(self, checkpoint: Checkpoint | None, data: TrainingData) -> None:
        """Take up what ``checkpoint`` holds besides the weights; without one, begin at step 0."""
        device = self.accelerator.device
        rows = self.rows[self.accelerator.process_index]
        self.carried: State | None = self.network.zero_state(len(rows)) if self.schedule.carries else None
        if checkpoint is None:
            self.progress = Progress(test_sha256=durable.sha256(self.run / TEST_TUNES))
        else:
            self.progress = Progress.of(checkpoint)
            self.progress.finished = False
            tensors = read_tensors(checkpoint)
            self.optimizer.load_state_dict(tensors["optimizer"])
            if self.carried is not None:
                mine = [part[:, rows.start : rows.stop].contiguous() for part in tensors["carried"]]
                self.carried = (mine[0].to(device), mine[1].to(device))
            if "scaler" in tensors and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(tensors["scaler"])
        self.progress.vocabulary_sha256 = durable.sha256(self.run / VOCABULARY)
        self.progress.data_sha256 = data.train.sha256
        self.progress.world_size = self.accelerator.num_processes
        self.saved_state = asdict(self.progress)
        nats = self.progress.window_loss if self.accelerator.is_main_process else 0.0
        self.window = Window(nats, self.progress.window_characters, device)

    def run_to_end(self) -> TrainingResult:
        """Make step after step, save what there is, and wait until it is written."""
        settings, progress = self.settings, self.progress
        try:
            self.settle_buckets()
            with contextlib.closing(self.builder.ahead(progress.step)) as batches:
                for step in range(progress.step, settings.steps + 1):
                    # What the last step came to: log, evaluate, save, stop.
                    if progress.logged < step and not self.log_and_evaluate():
                        break  # asked to stop; the next start evaluates
                    if self.checkpoint_is_due():
                        self.save()
                    if progress.finished or self.vote(bool(self.stop.reason) or self.writer.failed):
                        break
                    # The next one: batch, forward, backward, step.
                    self.update(next(batches))
            self.vote.close()
            self.save()
            on_main_process(self.accelerator, self._wait_until_written)
        finally:
            self.writer.settle()  # before another may train here
            if self.log is not None:
                self.log.close(progress.finished)
        stopped_by = "" if progress.finished else self.stop.reason or ELSEWHERE
        return progress.result(stopped_by)

    def update(self, batch: Batch) -> None:
        """Make one step: the gradient of the global batch, and the optimizer."""
        step = self.progress.step
        if self.log is not None:
            self.log.step_begins(step)
        self.optimizer.zero_grad()
        for micro_batch in batch.micro_batches:
            last = micro_batch is batch.micro_batches[-1]
            # Not Accelerate's no_sync, which does nothing for a DistributedDataParallel of one process.
            with contextlib.nullcontext() if last or not self.together else self.model.no_sync():
                self.window.add(self.forward_backward(micro_batch, batch.facts.characters))
            if self.exact and not last:
                self.exact.put_aside(self.parameters)
        if self.exact and not self.together:
            self.exact.finish_alone(self.parameters)
        if self.settings.clip_norm:
            self.accelerator.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, step)
        self.optimizer.step()
        self.progress.step += 1
        self.window.characters += batch.facts.characters
        self.facts = batch.facts

    def forward_backward(self, micro_batch: MicroBatch, characters: int) -> Tensor:
        """Leave the gradient of the micro-batch's part of the loss; return the sum of its losses (nats).

        The loss of a step is the sum over the global batch's ``characters`` divided by their number.
        """
        micro_batch = micro_batch.to(self.accelerator.device)
        first = self.rows[self.accelerator.process_index].start
        mine = slice(micro_batch.rows.start - first, micro_batch.rows.stop - first)
        state: State | None = None
        if self.carried is not None:
            state = (self.carried[0][:, mine].contiguous(), self.carried[1][:, mine].contiguous())
        logits, state = self.model(micro_batch.inputs, state, micro_batch.masks, micro_batch.places)
        nats = cross_entropy(
            logits.flatten(0, 1), micro_batch.targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        # DDP takes the mean over the processes, the exact sum does not.
        averaged = self.accelerator.num_processes if self.together and not self.exact else 1
        self.accelerator.backward(nats * (averaged / max(1, characters)))
        if self.carried is not None:
            for kept, after in zip(self.carried, state, strict=True):
                kept[:, mine] = after.detach()
        return nats.detach()

    def settle_buckets(self) -> None:
        """Go forward and backward once, and forget it: DDP lays its buckets out anew after the first time.

        That changes which numbers are added in which order, so a run that was resumed would differ from one
        that was not (at 3 processes and more).
        """
        if self.together:
            carried = self.carried
            self.carried = None
            batch = self.builder.batch(self.progress.step)
            self.forward_backward(batch.micro_batches[-1], batch.facts.characters)
            self.optimizer.zero_grad()
            self.carried = carried

    def log_and_evaluate(self) -> bool:
        """Write the last step's metrics, and evaluate if it is time; False if asked to stop before that is
        done.
        """
        progress, settings = self.progress, self.settings
        step, last = progress.step, progress.step >= settings.steps
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
        return self.validation.bits_per_char(self.network, self.accelerator, self.stop)

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
        self.progress.window_loss = self.window.nats()
        self._refuse_divergence(self.progress.window_loss, "loss")
        self.progress.window_characters = self.window.characters
        state = asdict(self.progress)
        if state == self.saved_state:
            return
        norm = torch.nn.utils.get_total_norm([parameter.detach() for parameter in self.parameters])
        self._refuse_divergence(float(norm), "norm of the weights")
        tensors: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self.carried is not None:
            tensors["carried"] = [gather_rows(self.accelerator, part, self.rows) for part in self.carried]
        if self.accelerator.scaler is not None:
            tensors["scaler"] = self.accelerator.scaler.state_dict()
        self.saved_state = state
        if self.accelerator.is_main_process:
            self.writer.submit(
                Snapshot(self.progress.step, copied(weights_of(self.network)), copied(tensors), state),
                self.progress.best_step,
            )

    def opening(self) -> list[str]:
        """Lines that say who trains on what, and how much there is to do."""
        steps, characters = self.settings.steps, self.schedule.facts(self.progress.step).characters
        left = steps - self.progress.step
        which = f"the last {left:,} of {steps:,}" if self.progress.step else f"{steps:,}"
        return [
            first_line(self.accelerator, list(map(len, self.rows)), self.settings),
            f"{which} steps of {characters:,} characters, {left * characters:,} in all",
        ]

    def _refuse_divergence(self, value: float, name: str) -> None:
        """Raise RequestError, the same in all processes, where ``value`` is no number any more."""
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

    def _means(self) -> Values:
        """The values of the current step's line of metrics; begins a new window."""
        nats = self.window.nats()
        self._refuse_divergence(nats, "loss")
        step = self.progress.step - 1
        facts = self.facts or self.schedule.facts(step)
        epoch: Values = {} if facts.epoch is None else {"epoch": facts.epoch}
        return {
            **self.window.close(nats),
            "learning_rate": learning_rate(self.settings, step),
            "batch": facts.digest,
            "time": round(time.time(), 3),
            **epoch,
        }


def micro_batches(settings: TrainingSettings, processes: int) -> int:
    """How many micro-batches the global batch is cut into.

    RequestError where exact sums would depend on the number of processes.
    """
    if not settings.exact:
        return max(settings.accumulation, processes)
    count = settings.accumulation if settings.accumulation > 1 else min(8, settings.batch_size)
    if processes > count:
        raise RequestError(
            f"training.exact cuts the batch into {count} micro-batches at any number of processes; here "
            f"are {processes} of them: set training.accumulation={processes} or more"
        )
    return count


def _check(config: Config) -> None:
    settings = config.training
    if settings.accumulation > settings.batch_size:
        raise RequestError(
            f"training.accumulation = {settings.accumulation} cannot cut "
            f"training.batch_size = {settings.batch_size} rows"
        )
    if settings.warmup_steps > settings.steps:
        raise RequestError(
            f"training.warmup_steps = {settings.warmup_steps} is more than training.steps = {settings.steps}"
        )
    if (config.model.pointer or config.model.position) and settings.batches != "tunes":
        raise RequestError(
            f"training.batches = {settings.batches!r}: a model with model.pointer or model.position reads "
            "tunes from their beginning; set training.batches=tunes"
        )
    if settings.patience and not settings.evaluate_every:
        raise RequestError("training.patience needs evaluations; set training.evaluate_every too")
    refuse_unknown_trackers(config.tracking.also)


def _trusted(run: Path, step: int) -> Checkpoint:
    """A checkpoint that the main process has verified."""
    path = checkpoint_path(run, step)
    return Checkpoint(path, step, durable.read_json(path / STATE))

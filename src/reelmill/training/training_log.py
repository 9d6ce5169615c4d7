"""What a run tells while it trains: metrics.jsonl and the trackers fed from it, a bar and the time left on
the terminal, a song now and then. Nothing in training depends on it.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tqdm import tqdm

from reelmill import config as configuration
from reelmill.config import Config
from reelmill.errors import IncompleteError, RequestError
from reelmill.layout import METRICS, TRACKERS
from reelmill.model import TrainedModel
from reelmill.tracking.comet import Publisher
from reelmill.tracking.metrics import MetricsLog
from reelmill.training.settings import TrainingSettings

_log = logging.getLogger(__name__)

Values = dict[str, float | int | str]

_MEASURED = 10  # steps of this process after which the time left is told


class TrainingLog:
    """For the main process. What the metrics say after step ``logged`` is taken back.

    ``opening`` are lines to begin with. ``check`` is called before each line of metrics and raises what must
    keep it from being written.
    """

    def __init__(
        self,
        config: Config,
        run: Path,
        accelerator: Accelerator,
        step: int,
        logged: int,
        opening: Sequence[str],
        check: Callable[[], None],
    ) -> None:
        self.config, self._check = config, check
        self.accelerator = accelerator
        self.metrics = MetricsLog(run / METRICS)
        self.metrics.cut_back(logged)
        self.publisher = Publisher(run, config.tracking, configuration.to_dict(config))
        _start_trackers(accelerator, config, run, logged)
        for line in opening:  # before there is a bar to be drawn again
            print(f"reelmill: {line}", file=sys.stderr, flush=True)
        self.bar = tqdm(
            total=config.training.steps,
            initial=step,
            desc="Training",
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )
        self._measured_from: tuple[int, float] | None = None

    def tell(self, text: str) -> None:
        """Say something beside the bar."""
        self.bar.write(f"reelmill: {text}", file=sys.stderr)

    def step_begins(self, step: int) -> None:
        """Tell the time left once this process has made a few steps."""
        settings = self.config.training
        if self._measured_from is None:
            self._measured_from = step + 1, 0.0  # the first step sets things up and does not count
            return
        first, began = self._measured_from
        if step == first:
            self._measured_from = first, time.monotonic()
        elif step == first + _MEASURED and step < settings.steps:
            each = (time.monotonic() - began) / _MEASURED
            until = min(settings.steps, (step // settings.checkpoint_every + 1) * settings.checkpoint_every)
            self.tell(
                f"{each:.2g} seconds a step: {duration_text(each * (settings.steps - step))} left; the next "
                f"checkpoint is due at step {until:,}, in {duration_text(each * (until - step))}"
            )

    def write(self, step: int, values: Values, best_bits_per_char: float | None) -> None:
        """Write the line of ``step``, and hand it on to all trackers."""
        self._check()
        self.metrics.append(step, kind="train", **values)
        self.publisher.publish()
        self.accelerator.log(dict(values), step=step)
        shown = {
            "loss": values["loss"],
            "bits/char": values["bits_per_char"],
            "chars/s": values["chars_per_second"],
        }
        if best_bits_per_char is not None:
            shown["best"] = best_bits_per_char
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(step - self.bar.n)

    def publish_song(self, model: TrainedModel, step: int) -> None:
        """Have the model of ``step`` make a song, for Comet."""
        if song := _sample_song(model, self.config, step):
            self.publisher.log_song(f"sample-{step:06d}", *song, step, self.config.audio.sample_rate)

    def close(self, finished: bool) -> None:
        """Send what is left. A stop leaves little time for it; the next start sends the rest."""
        self.bar.close()
        try:
            self.metrics.close()
        finally:
            self.accelerator.end_training()
            self.publisher.close(timeout=60 if finished else 10, archive=finished)


def first_line(accelerator: Accelerator, rows: Sequence[int], settings: TrainingSettings) -> str:
    """Who trains, on what: processes, device, backend, ``rows`` of each process, precision."""
    size, backend = accelerator.num_processes, accelerator.state.backend
    processes = f"{size} processes ({backend})" if size > 1 else "1 process"
    each = str(rows[0]) if min(rows) == max(rows) else f"{min(rows)} to {max(rows)}"
    each = f"{each} of {settings.batch_size} rows each" if size > 1 else f"{each} rows a step"
    precision = "float32" if settings.precision == "no" else settings.precision
    exact = ", exact sums" if settings.exact else ""
    return f"training in {processes} on {accelerator.device.type}, {each}, {precision}{exact}"


def duration_text(seconds: float) -> str:
    """A length of time for a person: 40 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02} min"


def refuse_unknown_trackers(names: list[str]) -> None:
    """Raise RequestError for a tracker that Accelerate does not know, or that is not installed."""
    known = [str(name) for name in LOGGER_TYPE_TO_CLASS if str(name) != "comet_ml"]
    for name in names:
        if name.startswith("comet"):
            raise RequestError(f"tracking.also: {name!r}: Comet has a setting of its own, tracking.comet")
        if name not in known:
            raise RequestError(
                f"tracking.also: {name!r} is no tracker of Accelerate{configuration.nearest(name, known)}"
            )
        if find_spec(name) is None:
            raise RequestError(f"tracking.also: {name!r} is not installed (pip install {name})")


def _start_trackers(accelerator: Accelerator, config: Config, run: Path, logged: int) -> None:
    """Start what ``tracking.also`` names; a run that is resumed goes on in its trackers where they can.

    TensorBoard forgets the steps after ``logged``, which will be made again; Weights & Biases takes a run up
    by its name and drops steps that it has.
    """
    if not config.tracking.also:
        return
    (run / TRACKERS).mkdir(exist_ok=True)
    parameters = {
        f"{section}.{key}": value if isinstance(value, (bool, int, float, str)) else str(value)
        for section, values in configuration.to_dict(config).items()
        for key, value in values.items()
    }
    accelerator.init_trackers(
        config.tracking.project,
        # TensorBoard would write its parameters anew at each start, under another time.
        config=parameters if logged == 0 else None,
        init_kwargs={
            "tensorboard": {"purge_step": logged + 1},
            "wandb": {"id": run.name, "resume": "allow", "dir": str(run / TRACKERS)},
        },
    )


def _sample_song(
    model: TrainedModel, config: Config, step: int
) -> tuple[str, npt.NDArray[np.int16] | None] | None:
    """(ABC text, samples [time, channels] or None if it cannot be played), prompted like the first song.

    A function of the model, the settings and the step. None, with a warning, where these settings sample
    nothing here, as ``generate`` would say.
    """
    from reelmill.sampling.engine import Attempt, Engine
    from reelmill.songs.store.prompts import prompt_text

    settings = dataclasses.replace(config.sampling, slots=1)
    try:
        engine = Engine(model, settings, config.training.seed)
        engine.submit(Attempt(step, prompt=prompt_text(next(iter(config.songs.prompts), ""))))
        abc = engine.step().sampled(model.vocabulary)[0].text
    except (RequestError, ValueError) as error:
        _log.warning("no sample song: %s", error)
        return None
    return abc, _played(abc, config)


def _played(abc: str, config: Config) -> npt.NDArray[np.int16] | None:
    from reelmill.audio.midi import abc_to_midi, midi_problem
    from reelmill.audio.render import SilentAudio, renderer

    try:
        midi = abc_to_midi(abc, tempos=config.audio.tempo)
        if midi_problem(midi):
            return None
        return renderer(config.audio).render(midi.data)
    except (RequestError, IncompleteError, SilentAudio, ValueError) as error:
        _log.warning("the sample song is published without audio: %s", error)
        return None

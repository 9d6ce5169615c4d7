"""What a run tells while it trains: metrics.jsonl, Comet, a bar on the terminal, a song now and then."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from reelmill import config as configuration
from reelmill.config import Config
from reelmill.layout import METRICS
from reelmill.model import TrainedModel
from reelmill.tracking.comet import Publisher
from reelmill.tracking.metrics import MetricsLog
from reelmill.training.samples import sample_song

Values = dict[str, float | int | str]


class TrainingLog:
    """For the first process. What the metrics say after step ``logged`` is taken back."""

    def __init__(self, config: Config, run: Path, step: int, logged: int) -> None:
        self.config = config
        self.metrics = MetricsLog(run / METRICS)
        self.metrics.cut_back(logged)
        self.publisher = Publisher(run, config.tracking, configuration.to_dict(config))
        self.bar = tqdm(
            total=config.training.steps,
            initial=step,
            desc="Training",
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )

    def write(self, step: int, values: Values, best_bits_per_char: float | None) -> None:
        """Write the line of ``step``, and hand it on."""
        self.metrics.append(step, kind="train", **values)
        self.publisher.publish()
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
        if song := sample_song(model, self.config, step):
            self.publisher.log_song(f"sample-{step:06d}", *song, step, self.config.audio.sample_rate)

    def close(self, finished: bool) -> None:
        """Send what is left. A stop leaves little time for it; the next start sends the rest."""
        self.bar.close()
        try:
            self.metrics.close()
        finally:
            self.publisher.close(timeout=60 if finished else 10, archive=finished)

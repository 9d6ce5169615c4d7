"""A song by the model as it is, for a person who follows the training. Nothing in training depends on it."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import numpy.typing as npt

from reelmill.config import Config
from reelmill.errors import IncompleteError, RequestError
from reelmill.model import TrainedModel

_log = logging.getLogger(__name__)


def sample_song(
    model: TrainedModel, config: Config, step: int
) -> tuple[str, npt.NDArray[np.int16] | None] | None:
    """(ABC text, samples [time, channels] or None if it cannot be played), prompted like the first song.

    A function of the model, the settings and the step. None, with a warning, where these settings sample
    nothing here, as ``generate`` would say.
    """
    from reelmill.sampling.engine import Attempt, Engine

    settings = dataclasses.replace(config.sampling, slots=1)
    try:
        engine = Engine(model, settings, config.training.seed)
        engine.submit(Attempt(step, prompt=next(iter(config.songs.prompts), "")))
    except (RequestError, ValueError) as error:
        _log.warning("no sample song: %s", error)
        return None
    abc = engine.step()[0].text
    return abc, _played(abc, config)


def _played(abc: str, config: Config) -> npt.NDArray[np.int16] | None:
    from reelmill.audio.midi import abc_to_midi, midi_problem
    from reelmill.audio.render import SilentAudio, renderer

    try:
        midi = abc_to_midi(abc)
        if midi_problem(midi):
            return None
        return renderer(config.audio).render(midi.data)
    except (RequestError, IncompleteError, SilentAudio, ValueError) as error:
        _log.warning("the sample song is published without audio: %s", error)
        return None

"""What this machine samples from a model, as answers that every machine must give to make the same texts.

They are computed exactly as songs are, with the same slots and threads, so they also notice a machine where
those change a text. In float32 and bfloat16 texts follow the processor and its libraries, which are named.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from reelmill.durable import digest
from reelmill.model import TrainedModel
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.engine import Attempt, Engine, sampling_device, slots
from reelmill.sampling.kernels.choice import weights
from reelmill.sampling.products import MINIMUM_ROWS, padded_rows
from reelmill.sampling.settings import SamplingSettings

_SONGS, _CHARACTERS, _STEPS = MINIMUM_ROWS, 300, 24
_FIRST_SONG = 2**40  # far from any id, so that a probe is no song's beginning


def known_answers(model: TrainedModel, settings: SamplingSettings, seed: int) -> dict[str, str]:
    """The model's numbers and the characters sampled by them, hashed, beside what may decide them here."""
    return {
        "torch": torch.__version__,
        **({} if settings.precision == "int8" else _processor(settings)),
        "precision": settings.precision,
        "numbers": _numbers(model, settings),
        "characters": _characters(model, settings, seed),
    }


def _processor(settings: SamplingSettings) -> dict[str, str]:
    device = sampling_device(settings)
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "processor": "" if cuda else torch.backends.cpu.get_cpu_capability(),
    }


def _characters(model: TrainedModel, settings: SamplingSettings, seed: int) -> str:
    engine = Engine(model, replace(settings, max_length=min(_CHARACTERS, settings.max_length)), seed)
    for song in range(_SONGS):
        engine.submit(Attempt(_FIRST_SONG + song))
    texts = {}
    while engine.active:
        texts.update({one.song: one.text for one in engine.step().sampled(model.vocabulary)})
    return digest(*(text.encode("utf-8", "surrogatepass") for _, text in sorted(texts.items())))


@torch.inference_mode()
def _numbers(model: TrainedModel, settings: SamplingSettings) -> str:
    """Sampled characters seldom show a rounding that differs; logits, and the weights that the choice is made
    by, always do.
    """
    device = sampling_device(settings)
    cell = SamplingCell(model, settings.precision, device)
    rows = padded_rows(slots(settings, device), settings.precision, device)
    state = torch.zeros(2, cell.layers, rows, cell.hidden_size, device=device)
    characters, past = torch.arange(rows, device=device), cell.past(rows, _STEPS)
    for step in range(_STEPS):
        read = (characters + step) % model.vocabulary.size
        logits = cell.step(read, state[0], state[1], past)
        past.text[:, step] = (read + 1) % model.vocabulary.size
        past.position.add_(1)
    some = logits[:MINIMUM_ROWS]
    return digest(*(each.cpu().numpy().tobytes() for each in (some, weights(some, settings))))

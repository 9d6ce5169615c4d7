"""The plain way to sample: one song, one character at a time, through the network as it was trained.

This is the 6.S191 lab's loop with our warpers and random streams. Tests hold the engine to it, and the
benchmark measures the engine beside it.
"""

import torch

from reelmill.corpus.vocabulary import END, START
from reelmill.model import TrainedModel
from reelmill.sampling.block import Sampled
from reelmill.sampling.engine import Attempt
from reelmill.sampling.kernels.choice import choose
from reelmill.sampling.kernels.streams import uniforms
from reelmill.sampling.settings import SamplingSettings


@torch.inference_mode()
def sample(model: TrainedModel, settings: SamplingSettings, seed: int, attempt: Attempt) -> Sampled:
    """What ``attempt`` becomes, by the plain loop in float32 on the model's device."""
    prompt = model.vocabulary.encode(attempt.prompt, unknown="error").tolist()
    device = model.network.output.weight.device
    chosen: list[int] = []
    state, current = None, START
    song, number = torch.tensor([attempt.song]), torch.tensor([attempt.number])
    while len(chosen) < settings.max_length:
        logits, state = model.network(torch.tensor([[current]], device=device), state)
        logits = logits[:, -1].cpu()
        logits[:, START] = -torch.inf
        uniform = uniforms(seed, song, number, torch.tensor([len(chosen)]))
        current = int(choose(logits, uniform, settings))
        if len(chosen) < len(prompt):
            current = prompt[len(chosen)]
        if current == END:
            return Sampled(attempt.song, attempt.number, model.vocabulary.decode(chosen), True)
        chosen.append(current)
    return Sampled(attempt.song, attempt.number, model.vocabulary.decode(chosen), False)

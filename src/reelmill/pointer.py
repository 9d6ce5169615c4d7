"""What the character model has beside its LSTM: metrical positions, and a pointer into the tune so far.

The pointer (pointer sentinel LSTM, Merity et al. 2016) attends over the characters read: the key of a place
is what the network knew there, the value the character that followed. A place's score has a bias for how far
back it lies, and, where the model has positions, one if it is the same place in the bar some bars ago.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid, one_hot

from reelmill.corpus.vocabulary import START
from reelmill.metrical.kernels.counting import ANCHOR
from reelmill.metrical.reading import SIZES
from reelmill.training.settings import ModelSettings

BARS_AGO = (1, 2, 4, 8, 16)
"""Bars back to places whose scores have a bias of their own, where they are the same place in the bar."""

_NONE = -1e4  # of a logarithm, instead of minus infinity, whose gradients are no numbers
_SMALLEST = 1e-12  # share of the attention


class Position(nn.Module):
    """Embeddings of the places that ``metrical.reading`` tells, each ``model.position`` wide."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        width = settings.position
        self.parts = nn.ModuleList(nn.Embedding(size, width) for size in SIZES)
        self.into = nn.Linear(len(SIZES) * width, settings.embedding_size, bias=False)
        self.beside = nn.Linear(len(SIZES) * width, 2 * width)

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the characters' embeddings, and what stands beside the LSTM's output."""
        together = torch.cat([part(places[..., index]) for index, part in enumerate(self.parts)], dim=-1)
        return self.into(together), torch.tanh(self.beside(together))


class Pointer(nn.Module):
    """Attention over the last ``model.pointer_window`` places of the tune, and its share in the prediction.

    Queries and keys lie in (-1, 1), as an LSTM's state does, so that sampling can round all to one scale.
    """

    def __init__(self, settings: ModelSettings, inputs: int) -> None:
        super().__init__()
        self.window, self.scale = settings.pointer_window, 1 / math.sqrt(settings.pointer)
        self.query = nn.Linear(inputs, settings.pointer)
        self.key = nn.Linear(inputs, settings.pointer)
        self.gate = nn.Linear(inputs, 1)
        nn.init.constant_(self.gate.bias, -2.0)  # at first it seldom copies
        self.distance = nn.Parameter(torch.zeros(settings.pointer_window))
        self.bars = nn.Parameter(torch.zeros(len(BARS_AGO))) if settings.position else None

    def forward(
        self,
        shown: Tensor,
        logits: Tensor,
        characters: Tensor,
        places: Tensor | None,
        memory: tuple[Tensor, ...] | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logarithms of probabilities [batch, time, vocabulary], and what is remembered.

        ``shown`` is [batch, time, inputs], ``logits`` the vocabulary's. ``memory`` has the keys, characters
        and anchors (``metrical.reading``) of the places before, each with time as its first axis.
        """
        time = characters.shape[1]
        anchors = torch.zeros_like(characters) if places is None else places[..., -1]
        told = (torch.tanh(self.key(shown)).float(), characters, anchors)
        read = [each.transpose(0, 1) for each in told]
        if memory is not None:
            read = [torch.cat([old, new]) for old, new in zip(memory, read, strict=True)]
        keys, values, anchors_read = (each.transpose(0, 1) for each in read)
        # The last place has no value yet.
        scores = torch.tanh(self.query(shown)).float() @ keys[:, :-1].transpose(1, 2) * self.scale
        begun = keys.shape[1] - time
        now = torch.arange(begun, begun + time, device=characters.device)
        distance = now[:, None] - torch.arange(keys.shape[1] - 1, device=characters.device)
        seen = (distance > 0) & (distance <= self.window)
        scores = scores + self.distance[distance.clamp(1, self.window) - 1]
        if self.bars is not None:
            apart = anchors[:, :, None] - anchors_read[:, None, :-1]
            for bias, bars in zip(self.bars, BARS_AGO, strict=True):
                scores = scores + bias * (apart == bars * ANCHOR)
        attention = torch.softmax(scores.masked_fill(~seen, _NONE), dim=-1) * seen
        copied = attention @ one_hot(values[:, 1:], logits.shape[-1]).float()
        gate = self.gate(shown).float()
        first = (now == 0)[:, None]  # there is nothing to copy yet
        copies = logsigmoid(gate).masked_fill(first, _NONE)
        speaks = logsigmoid(-gate).masked_fill(first, 0.0)
        # The start mark stands in no tune: what is mixed is shared among the others.
        never = torch.arange(logits.shape[-1], device=logits.device) == START
        logits = logits.masked_fill(never, _NONE)
        mixed = torch.logaddexp(speaks + log_softmax(logits, -1), copies + copied.clamp_min(_SMALLEST).log())
        return mixed, tuple(each[-self.window :] for each in read)

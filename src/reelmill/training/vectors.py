"""Gradients, loss and a wish to stop as one vector: what processes add up and send to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from reelmill.training.gradients import padded


def packed(parameters: Sequence[Parameter], loss: Tensor, flag: bool, processes: int) -> Tensor:
    """All gradients, then ``loss`` (no dimensions), then ``flag``, then zeros up to a multiple of
    ``processes``.
    """
    parts = [_gradient_of(parameter).flatten() for parameter in parameters]
    length = sum(map(len, parts)) + 2
    rest = loss.new_zeros(padded(length, processes) - length + 1)
    if flag:
        rest[0] = 1
    return torch.cat([*parts, loss.detach().reshape(1), rest])


def unpack(vector: Tensor, parameters: Sequence[Parameter]) -> tuple[Tensor, Tensor]:
    """Give each parameter its part of ``vector`` as gradient; returns the loss, and the sum of flags."""
    begin = 0
    for parameter in parameters:
        parameter.grad = vector[begin : begin + parameter.numel()].view_as(parameter)
        begin += parameter.numel()
    return vector[begin], vector[begin + 1]


def _gradient_of(parameter: Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

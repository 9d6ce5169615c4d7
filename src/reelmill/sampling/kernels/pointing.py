"""The pointer of one character: which characters followed at places like this, mixed with the vocabulary's.

All that is summed is integer: queries and keys are in levels, the attention's weights and the vocabulary's
are multiples of 2^-24 of the largest. What is left is IEEE 754's multiplications, additions and divisions, so
the result is the same on every processor that has the same logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled
from reelmill.corpus.vocabulary import START
from reelmill.metrical.kernels.counting import ANCHOR
from reelmill.sampling import kernels
from reelmill.sampling.kernels.choice import BITS
from reelmill.sampling.kernels.exponential import (
    exponential,
    exponential_by_pytorch,
    logarithm,
    logarithm_by_pytorch,
)
from reelmill.sampling.kernels.places import tanh, tanh_by_pytorch

_SCALE, _LOWEST = np.float32(1 << BITS), np.float32(-40.0)
_ONE = np.float32(1.0)
_ANCHOR_BITS = ANCHOR.bit_length() - 1


class Biases(NamedTuple):
    """What is added to a place's score, float32."""

    distance: torch.Tensor  # [window]: one character back, two …
    bars: torch.Tensor  # [bars]: the same place in the bar 0, 1, 2 … bars back; 0 at 0


def point(
    asked: torch.Tensor,
    spoken: torch.Tensor,
    anchor: torch.Tensor,
    keys: torch.Tensor,
    anchors: torch.Tensor,
    text: torch.Tensor,
    position: torch.Tensor,
    biases: Biases,
    levels: int,
) -> torch.Tensor:
    """Logarithms of the next character's probabilities, float32 [rows, vocabulary].

    ``asked``, float32 [rows, 2 × width], are the query and the key of each row before their hyperbolic
    tangents, ``spoken``, float32 [rows, vocabulary + 1], the vocabulary's logits and the gate's. ``text`` has
    the ``position`` characters that each row has read since its start mark, of which ``keys``, int8 or int16
    [rows, window, width] in steps of 1 / ``levels``, and ``anchors``, int64 [rows, window], have the place
    before character number n at n modulo the window. Those of the present place, whose anchor is ``anchor``,
    int64 [rows], are put there.
    """
    if not kernels.by_loops(keys.device):
        return point_by_pytorch(asked, spoken, anchor, keys, anchors, text, position, biases, levels)
    logits = torch.empty(len(spoken), spoken.shape[1] - 1)
    scale = _scale(keys, levels)
    tensors = (asked, spoken.contiguous(), anchor.contiguous(), keys, anchors, text, position, *biases)
    arrays = [tensor.numpy() for tensor in tensors]
    given: list[Any] = [*arrays, scale, np.float32(levels), logits.numpy()]
    _point(*given)
    return logits


def point_by_pytorch(
    asked: torch.Tensor,
    spoken: torch.Tensor,
    anchor: torch.Tensor,
    keys: torch.Tensor,
    anchors: torch.Tensor,
    text: torch.Tensor,
    position: torch.Tensor,
    biases: Biases,
    levels: int,
) -> torch.Tensor:
    """The same bits on any device in int8, of all places of the window whether there are any or not."""
    rows, window, width = keys.shape
    steps = torch.round(tanh_by_pytorch(asked) * levels)
    query, key = steps.split(width, dim=1)
    # Integers whose sums a float32 has.
    products = (keys.float() @ query[:, :, None]).squeeze(2)
    back = (position[:, None] - 1 - torch.arange(window, device=keys.device)) % window  # less one
    seen = back < position[:, None]
    apart = anchor[:, None] - anchors
    bars = torch.div(apart, ANCHOR, rounding_mode="floor")
    same = (apart == bars * ANCHOR) & (bars >= 0) & (bars < len(biases.bars))
    scores = products * float(_scale(keys, levels)) + biases.distance[back]
    scores = scores + biases.bars[torch.where(same, bars, 0)]
    scores = scores.masked_fill(~seen, float("-inf"))
    below = torch.where(seen, scores - scores.amax(dim=1, keepdim=True), 0.0).clamp_min(float(_LOWEST))
    weights = torch.round(exponential_by_pytorch(below) * float(_SCALE)).to(torch.int64) * seen
    followed = text.gather(1, (position[:, None] - 1 - back).clamp_min(0)).to(torch.int64)
    copied = torch.zeros(rows, spoken.shape[1] - 1, dtype=torch.int64, device=keys.device)
    copied.scatter_add_(1, followed, weights)
    logits, gate = spoken[:, :-1], spoken[:, -1:]
    below = (logits - logits.amax(dim=1, keepdim=True)).clamp_min(float(_LOWEST))
    found = torch.round(exponential_by_pytorch(below) * float(_SCALE)).to(torch.int64)
    opened = 1.0 / (1.0 + exponential_by_pytorch(-gate.clamp(-40.0, 40.0))) * (position > 0)[:, None]
    copies = opened.double() / copied.sum(dim=1, keepdim=True).clamp_min(1).double()
    speaks = (1.0 - opened).double() / found.sum(dim=1, keepdim=True).double()
    shares = (speaks * found.double() + copies * copied.double()).float()
    wrong = (logits - logits)[:, START + 1 :].sum(dim=1, keepdim=True)  # a number, or not
    mixed = logarithm_by_pytorch(shares) + (shares - shares) + wrong
    mixed[:, START] = -torch.inf
    slot = (position % window)[:, None]
    keys.scatter_(1, slot[:, :, None].expand(rows, 1, width), key[:, None].to(keys.dtype))
    anchors.scatter_(1, slot, anchor[:, None])
    return mixed


def _scale(keys: torch.Tensor, levels: int) -> np.float32:
    return np.float32(1 / (levels * levels * keys.shape[2] ** 0.5))


@compiled
def _point(
    asked: NDArray[np.float32],
    spoken: NDArray[np.float32],
    anchor: NDArray[np.int64],
    keys: NDArray[np.int8 | np.int16],
    anchors: NDArray[np.int64],
    text: NDArray[np.uint8 | np.int32],
    position: NDArray[np.int64],
    distance: NDArray[np.float32],
    bars: NDArray[np.float32],
    scale: np.float32,
    levels: np.float32,
    logits: NDArray[np.float32],
) -> None:
    rows, size = logits.shape
    window, width = keys.shape[1], keys.shape[2]
    query, scores, spread = (
        np.empty(width, keys.dtype),
        np.empty(window, np.float32),
        np.empty(size, np.float32),
    )
    copied = np.empty(size, np.int64)
    for row in range(rows):
        read = position[row]
        count = min(read, window)
        first = (read - count) % window  # where the farthest place lies
        _to_levels(asked[row, :width], levels, query)
        slot, top = first, np.float32(-np.inf)
        for index in range(count):
            product = np.float32(_product(query, keys[row, slot]))
            apart = anchor[row] - anchors[row, slot]
            ago = apart >> _ANCHOR_BITS
            if apart & (ANCHOR - 1) or ago < 0 or ago >= len(bars):
                ago = 0
            score = (product * scale + distance[count - 1 - index]) + bars[ago]
            scores[index], top = score, max(top, score)
            slot = slot + 1 if slot + 1 < window else 0
        _weigh(scores[:count], top)
        copied[:] = 0
        total = np.int64(0)
        for index in range(count):
            weight = np.int64(scores[index])
            copied[text[row, read - count + index]] += weight
            total += weight
        top, wrong = spoken[row, 0], spoken[row, size] - spoken[row, size]  # a number, or not
        if spoken[row, START] != -np.inf:
            wrong = np.float32(np.nan)
        for index in range(1, size):
            top = max(top, spoken[row, index])
            wrong += spoken[row, index] - spoken[row, index]
        spread[:] = spoken[row, :size]
        _weigh(spread, top)
        sum_ = np.int64(0)
        for index in range(size):
            sum_ += np.int64(spread[index])
        gate = min(max(spoken[row, size], _LOWEST), -_LOWEST)
        opened = _ONE / (_ONE + exponential(-gate)) * np.float32(read > 0)
        copies, speaks = np.float64(opened) / max(np.int64(1), total), np.float64(_ONE - opened) / sum_
        for index in range(size):
            share = np.float32(speaks * np.float64(spread[index]) + copies * np.float64(copied[index]))
            logits[row, index] = logarithm(share) + wrong
        logits[row, START] = -np.inf
        slot = read % window
        _to_levels(asked[row, width:], levels, keys[row, slot])
        anchors[row, slot] = anchor[row]


@compiled
def _to_levels(x: NDArray[np.float32], levels: np.float32, result: NDArray[np.int8 | np.int16]) -> None:
    for unit in range(len(x)):
        result[unit] = np.int32(np.rint(tanh(x[unit]) * levels))


@compiled
def _weigh(scores: NDArray[np.float32], top: np.float32) -> None:
    """Weights of scores, in their place: integers, as all float32 up to 2^24 are exact."""
    for index in range(len(scores)):
        below = scores[index] - top
        scores[index] = np.rint(exponential(below if below > _LOWEST else _LOWEST) * _SCALE)


@compiled
def _product(query: NDArray[np.int8 | np.int16], key: NDArray[np.int8 | np.int16]) -> int:
    total = np.int32(0)
    for unit in range(len(query)):
        total = np.int32(total + np.int32(query[unit]) * np.int32(key[unit]))
    return int(total)

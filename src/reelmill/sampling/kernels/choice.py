"""From logits to a character: temperature, top-k, top-p and min-p, then the inverse of the distribution.

All of it is decided on integers. A character's weight is its probability as a multiple of 2^-24 of the
likeliest's, and weights are summed exactly; so a choice is the same on every processor that has the same
logits, and a row's is independent of the other rows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reelmill.compiled import compiled
from reelmill.sampling import kernels
from reelmill.sampling.kernels.exponential import exponential, exponential_by_pytorch
from reelmill.sampling.settings import SamplingSettings

BITS = 24  # of a weight, of a random number, and of a share
MOST_CHARACTERS = 2 ** (63 - 2 * BITS) - 1
"""Of a vocabulary: the product of its weights' sum with a random number is an int64."""

_ONE = 1 << BITS
_SCALE = np.float32(_ONE)
_LOWEST = np.float32(-40.0)  # of a logit below the likeliest's: its weight has long been 0


def choose(logits: torch.Tensor, uniform: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """The characters (int64 [rows]) at which the cumulated weights reach ``uniform``, float32 [rows].

    ``logits`` are float32 [rows, vocabulary], ``uniform`` is in [0, 1). An excluded character has weight 0
    and is never chosen.
    """
    if not kernels.by_loops(logits.device):
        return choose_by_pytorch(logits, uniform, settings)
    chosen = torch.empty(len(logits), dtype=torch.int64)
    limits = (settings.top_k or logits.shape[1], _share(settings.top_p), _share(settings.min_p))
    given = (logits.contiguous().numpy(), uniform.contiguous().numpy())
    _choose(*given, _inverse(settings), *limits, chosen.numpy())
    return chosen


def choose_by_pytorch(
    logits: torch.Tensor, uniform: torch.Tensor, settings: SamplingSettings
) -> torch.Tensor:
    """The same on any device."""
    cumulated = torch.cumsum(weights(logits, settings), dim=-1)
    left = ((1.0 - uniform) * float(_SCALE)).to(torch.int64)  # 1 to 2^24, exactly
    # Rounded up, so 1 at least: "first at or above" never lands on a character of weight 0.
    target = (left[:, None] * cumulated[:, -1:] + (_ONE - 1)) >> BITS
    # Logits that are no numbers give no sum; the engine ends then, and until it does reads some character.
    return torch.searchsorted(cumulated, target).squeeze(-1).clamp_(max=logits.shape[1] - 1)


def weights(logits: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Weights int64 [rows, vocabulary] after the warpers, in their order; 2^24 is the likeliest's.

    Top-p keeps the smallest set of characters whose weights reach the share ``top_p`` of all (Holtzman et al.
    2020); min-p keeps those with at least ``min_p`` times the weight of the likeliest (Nguyen et al. 2024).
    """
    scaled = logits * float(_inverse(settings))
    below = (scaled - scaled.amax(dim=-1, keepdim=True)).clamp_min(float(_LOWEST))
    found = torch.round(exponential_by_pytorch(below) * float(_SCALE)).to(torch.int64)
    if settings.top_k or settings.top_p < 1.0:
        ordered = torch.sort(found, dim=-1, descending=True, stable=True)
        values = ordered.values
        if settings.top_k:
            values = values * (torch.arange(values.shape[-1], device=values.device) < settings.top_k)
        if settings.top_p < 1.0:
            before = torch.cumsum(values, dim=-1) - values
            limit = (values.sum(-1, keepdim=True) * _share(settings.top_p) + (_ONE - 1)) >> BITS
            values = values * (before < limit)
        found = torch.zeros_like(found).scatter(-1, ordered.indices, values)
    return found * (found >= _share(settings.min_p))


def _inverse(settings: SamplingSettings) -> np.float32:
    return np.float32(1 / settings.temperature)


def _share(value: float) -> int:
    """``value`` in steps of 2^-24, at least one of them if it is more than 0."""
    return -int(-value * _ONE // 1)


@compiled
def _choose(
    logits: NDArray[np.float32],
    uniforms: NDArray[np.float32],
    inverse: np.float32,
    most: int,
    share: int,
    lowest: int,
    chosen: NDArray[np.int64],
) -> None:
    rows, size = logits.shape
    found, kept = np.empty(size, np.int32), np.empty(size, np.int32)
    for row in range(rows):
        _weigh(logits[row], inverse, found)
        if most < size:
            _keep_largest(found, kept, most, size * _ONE)
        if share < _ONE:
            _keep_largest(found, kept, size, (_sum(found) * share + (_ONE - 1)) >> BITS)
        if lowest > 0:
            for index in range(size):
                if found[index] < lowest:
                    found[index] = 0
        left = np.int64((np.float32(1.0) - uniforms[row]) * _SCALE)
        chosen[row] = _reaching(found, int((left * _sum(found) + (_ONE - 1)) >> BITS))


@compiled
def _weigh(logits: NDArray[np.float32], inverse: np.float32, found: NDArray[np.int32]) -> None:
    """The weight of each character."""
    top = logits[0] * inverse
    for index in range(1, len(logits)):
        top = max(top, logits[index] * inverse)
    for index in range(len(logits)):
        below = logits[index] * inverse - top
        found[index] = np.int32(np.rint(exponential(below if below > _LOWEST else _LOWEST) * _SCALE))


@compiled
def _keep_largest(found: NDArray[np.int32], kept: NDArray[np.int32], most: int, limit: int) -> None:
    """Leave the ``most`` largest, or as many of them as it takes to reach ``limit``; of equals the first."""
    kept[:] = 0
    reached = 0
    while most > 0 and reached < limit:
        largest = 0
        for index in range(1, len(found)):
            if found[index] > found[largest]:
                largest = index
        if found[largest] == 0:
            break
        kept[largest] = found[largest]
        reached += int(found[largest])
        found[largest] = 0
        most -= 1
    found[:] = kept


@compiled
def _sum(found: NDArray[np.int32]) -> int:
    total = 0
    for index in range(len(found)):
        total += int(found[index])
    return total


@compiled
def _reaching(found: NDArray[np.int32], target: int) -> int:
    """The first character at which the sum reaches ``target``."""
    reached = 0
    for index in range(len(found)):
        reached += int(found[index])
        if reached >= target:
            return index
    return len(found) - 1

"""From logits to a choice: temperature, top-k, top-p and min-p, then the inverse of the distribution.

Everything works row by row on ``[slots, vocabulary]`` float32 and leaves a row's result independent of the
other rows. Nothing is sorted unless top-k or top-p asks for it.
"""

import torch

from reelmill.sampling.settings import SamplingSettings


def probabilities(logits: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Unnormalised probabilities after the warpers, in their order; excluded characters have 0.

    Top-p keeps the smallest set of characters whose probabilities reach ``top_p`` (Holtzman et al. 2020);
    min-p keeps those with at least ``min_p`` times the probability of the likeliest (Nguyen et al. 2024).
    """
    if settings.temperature != 1.0:
        logits = logits / settings.temperature
    p = torch.softmax(logits, dim=-1)
    if 0 < settings.top_k < p.shape[-1]:
        kept = torch.sort(p, dim=-1, descending=True, stable=True).indices[..., : settings.top_k]
        p = torch.zeros_like(p).scatter(-1, kept, p.gather(-1, kept))
    if settings.top_p < 1.0:
        ordered = torch.sort(p, dim=-1, descending=True, stable=True)
        before = torch.cumsum(ordered.values, dim=-1) - ordered.values
        # Top-k may have left less than 1, so the limit is a share of what is left.
        kept_values = ordered.values * (before < settings.top_p * ordered.values.sum(-1, keepdim=True))
        p = torch.zeros_like(p).scatter(-1, ordered.indices, kept_values)
    if settings.min_p > 0.0:
        p = p * (p >= settings.min_p * p.amax(dim=-1, keepdim=True))
    return p


def choose(p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The character (int64 [slots]) at which the cumulated ``p`` [slots, vocabulary] reaches ``uniform``."""
    cumulated = torch.cumsum(p, dim=-1)
    # 1 - u lies in (0, 1], and "first at or above" never lands on a character of probability 0.
    target = (1.0 - uniform).unsqueeze(-1) * cumulated[..., -1:]
    return torch.searchsorted(cumulated, target).squeeze(-1)

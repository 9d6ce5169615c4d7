"""Warpers keep the characters they promise to, in the proportions they had."""

import torch

from reelmill.sampling.kernels.choice import choose, probabilities
from reelmill.sampling.settings import SamplingSettings

P = torch.tensor([[0.05, 0.5, 0.1, 0.3, 0.05], [0.96, 0.01, 0.01, 0.01, 0.01]])
LOGITS = P.log()


def kept(**settings: float) -> list[list[int]]:
    p = probabilities(LOGITS, SamplingSettings(**settings))
    return [torch.nonzero(row).flatten().tolist() for row in p]


def test_without_warpers_the_distribution_is_the_models() -> None:
    assert torch.allclose(probabilities(LOGITS, SamplingSettings()), P)


def test_temperature_is_a_power_of_the_odds() -> None:
    p = probabilities(LOGITS, SamplingSettings(temperature=0.5))
    assert torch.allclose(p, P**2 / (P**2).sum(-1, keepdim=True))


def test_top_k_keeps_k_and_breaks_ties_by_order() -> None:
    assert kept(top_k=2) == [[1, 3], [0, 1]]
    assert kept(top_k=4) == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    assert kept(top_p=0.79) == [[1, 3], [0]]
    assert kept(top_p=0.81) == [[1, 2, 3], [0]]
    assert kept(top_p=1e-6) == [[1], [0]]


def test_top_p_after_top_k_is_a_share_of_what_is_left() -> None:
    assert kept(top_k=2, top_p=0.6) == [[1], [0]]  # 0.5 of 0.8 left is 0.625


def test_min_p_is_relative_to_the_likeliest() -> None:
    assert kept(min_p=0.5) == [[1, 3], [0]]


def test_proportions_are_kept() -> None:
    p = probabilities(LOGITS, SamplingSettings(top_k=2))
    assert torch.allclose(p[0, 1] / p[0, 3], torch.tensor(5 / 3))


def test_choices_follow_the_distribution() -> None:
    count = 20_000
    uniform = (torch.arange(count) + 0.5) / count
    chosen = choose(P[:1].expand(count, -1).contiguous(), uniform)
    assert torch.allclose(torch.bincount(chosen, minlength=5) / count, P[0], atol=2e-4)


def test_an_excluded_character_is_never_chosen() -> None:
    p = torch.tensor([[0.0, 0.7, 0.0, 0.3, 0.0]]).expand(3, -1).contiguous()
    chosen = choose(p, torch.tensor([0.0, 0.5, 1 - 2**-24]))
    assert set(chosen.tolist()) <= {1, 3} and {int(chosen[0]), int(chosen[2])} == {1, 3}

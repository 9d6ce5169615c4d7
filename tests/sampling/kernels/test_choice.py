"""Warpers keep the characters they promise to, in the proportions they had; a choice follows them."""

import itertools

import pytest
import torch

from reelmill.sampling.kernels.choice import BITS, choose, choose_by_pytorch, weights
from reelmill.sampling.kernels.exponential import exponential_by_pytorch
from reelmill.sampling.settings import SamplingSettings

P = torch.tensor([[0.05, 0.5, 0.1, 0.3, 0.05], [0.96, 0.01, 0.01, 0.01, 0.01]])
LOGITS = P.log()
PLAIN = SamplingSettings()


def probabilities(**settings: float) -> torch.Tensor:
    found = weights(LOGITS, SamplingSettings(**settings))
    return found / found.sum(-1, keepdim=True)


def kept(**settings: float) -> list[list[int]]:
    return [torch.nonzero(row).flatten().tolist() for row in weights(LOGITS, SamplingSettings(**settings))]


def test_without_warpers_the_distribution_is_the_models() -> None:
    assert torch.allclose(probabilities(), P)


def test_temperature_is_a_power_of_the_odds() -> None:
    assert torch.allclose(
        probabilities(temperature=0.5), P**2 / (P**2).sum(-1, keepdim=True), atol=2.0**-BITS
    )


def test_top_k_keeps_k_and_breaks_ties_by_order() -> None:
    assert kept(top_k=2) == [[1, 3], [0, 1]]
    assert kept(top_k=4) == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    assert kept(top_p=0.79) == [[1, 3], [0]]
    assert kept(top_p=0.81) == [[1, 2, 3], [0]]
    assert kept(top_p=1e-6) == [[1], [0]]
    assert kept(top_p=1e-12) == [[1], [0]]


def test_top_p_after_top_k_is_a_share_of_what_is_left() -> None:
    assert kept(top_k=2, top_p=0.6) == [[1], [0]]  # 0.5 of 0.8 left is 0.625


def test_min_p_is_relative_to_the_likeliest() -> None:
    assert kept(min_p=0.5) == [[1, 3], [0]]


def test_proportions_are_kept() -> None:
    p = probabilities(top_k=2)
    assert torch.allclose(p[0, 1] / p[0, 3], torch.tensor(5 / 3))


@pytest.mark.parametrize("chooses", [choose, choose_by_pytorch])
def test_choices_follow_the_distribution(chooses) -> None:
    count = 20_000
    uniform = (torch.arange(count) + 0.5) / count
    chosen = chooses(LOGITS[:1].expand(count, -1), uniform, PLAIN)
    assert torch.allclose(torch.bincount(chosen, minlength=5) / count, P[0], atol=2e-4)


@pytest.mark.parametrize("chooses", [choose, choose_by_pytorch])
def test_an_excluded_character_is_never_chosen(chooses) -> None:
    logits = torch.tensor([[0.0, 0.7, 0.0, 0.3, 0.0]]).log().expand(3, -1)
    chosen = chooses(logits, torch.tensor([0.0, 0.5, 1 - 2**-24]), PLAIN)
    assert set(chosen.tolist()) <= {1, 3} and {int(chosen[0]), int(chosen[2])} == {1, 3}


@pytest.mark.parametrize(
    "warp",
    [
        dict(zip(("temperature", "top_k", "top_p", "min_p"), values, strict=True))
        for values in itertools.product((1.0, 0.6, 3.0), (0, 1, 5, 500), (1.0, 0.8, 1e-9), (0.0, 0.1))
    ],
)
def test_the_loop_and_the_tensors_choose_alike(warp: dict[str, float]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(400, 83, generator=generator) * torch.rand(400, 1, generator=generator) * 20
    logits[:, 0] = -torch.inf
    logits[7], logits[8, 3:] = 1.5, -torch.inf  # ties, and few left
    logits[9:40] = logits[9:40].round()
    uniform = torch.randint(2**BITS, (400,), generator=generator) * 2.0**-BITS
    uniform[::9], uniform[4::9] = 0.0, 1 - 2.0**-BITS
    settings = SamplingSettings(**warp)
    assert torch.equal(choose(logits, uniform, settings), choose_by_pytorch(logits, uniform, settings))


def test_the_exponential_is_as_near_as_a_librarys() -> None:
    x = torch.linspace(-87, 87, 100_001)
    exact = x.double().exp()
    assert ((exponential_by_pytorch(x).double() - exact).abs() / exact).max() < 2e-7
    assert exponential_by_pytorch(torch.zeros(1)) == 1.0

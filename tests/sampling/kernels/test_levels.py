"""The state in levels, beside PyTorch's functions."""

import torch

from reelmill.sampling.kernels.levels import LEVELS, levels


def test_levels_are_the_nearest() -> None:
    state = torch.cat([torch.linspace(-1, 1, 4096), torch.arange(-64, 64) / 64.0, torch.tensor([1.0] * 31)])
    expected = torch.round(state * LEVELS).add(LEVELS).to(torch.uint8)
    assert torch.equal(levels(state[None])[0], expected)
    assert torch.equal(levels(state[: 5 * 851].reshape(5, 851).t()), expected[: 5 * 851].reshape(5, 851).t())
    assert levels(state[:0]).shape == (0,)

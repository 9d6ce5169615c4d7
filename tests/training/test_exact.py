"""Exact sums: the same bits in any order and grouping, closer to the truth than float32, and never silent."""

import pytest
import torch
from torch.nn import Parameter

from reelmill.training.exact import ExactSum

GENERATOR = torch.Generator().manual_seed(4)
GRADIENTS = [torch.randn(500, generator=GENERATOR) * 10.0**-power for power in (0, 5, 2, 1, 6, 0, 3)]


def summed(gradients):
    """The sum that one process comes to, its micro-batches in this order."""
    parameter, total = Parameter(torch.zeros(500)), ExactSum(len(gradients))
    for gradient in gradients[:-1]:
        parameter.grad = gradient.clone()
        total.put_aside([parameter])
        assert parameter.grad is None
    parameter.grad = gradients[-1].clone()
    total.finish_alone([parameter])
    return parameter.grad


def test_the_order_does_not_matter_and_the_sum_is_closer_than_a_float32_one():
    exact = summed(GRADIENTS)
    assert torch.equal(exact, summed(GRADIENTS[::-1]))
    assert torch.equal(exact, summed(GRADIENTS[3:] + GRADIENTS[:3]))
    true = torch.stack(GRADIENTS).double().sum(0)
    plain = torch.zeros(500)
    for gradient in GRADIENTS:
        plain += gradient
    assert (exact.double() - true).norm() < (plain.double() - true).norm()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf"), 1e7, -1e30])
@pytest.mark.parametrize("micro_batch", [0, 6])
def test_what_cannot_be_added_up_exactly_is_infinite(wrong, micro_batch):
    gradients = [gradient.clone() for gradient in GRADIENTS]
    gradients[micro_batch][17] = wrong
    assert torch.isinf(summed(gradients)).all()


def test_a_parameter_without_a_gradient_adds_nothing():
    parameter, total = Parameter(torch.zeros(3)), ExactSum(1)
    total.finish_alone([parameter])
    assert torch.equal(parameter.grad, torch.zeros(3))

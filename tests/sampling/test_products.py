"""A row of a product is a function of that row alone: what "same bytes" stands on."""

import pytest
import torch

from reelmill.sampling.products import MINIMUM_ROWS, product

PRECISIONS = ["float32", "bfloat16", "int8"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inputs", [96, 1024])
def test_rows_do_not_depend_on_number_order_neighbours_or_threads(precision: str, inputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    multiply = product(torch.randn(4 * inputs, inputs, generator=generator) * 0.1, precision)
    x = torch.tanh(torch.randn(256, inputs, generator=generator))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = multiply(x)
        order = torch.randperm(256, generator=generator)
        assert torch.equal(multiply(x[order]), whole[order])
        for rows in (MINIMUM_ROWS, MINIMUM_ROWS + 1, 47, 64, 100, 128, 255):
            assert torch.equal(multiply(x[:rows].contiguous()), whole[:rows]), rows
        torch.set_num_threads(2)
        assert torch.equal(multiply(x), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2), ("int8", 2e-2)])
def test_close_to_the_exact_product(precision: str, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(512, 256, generator=generator)
    x = torch.tanh(torch.randn(64, 256, generator=generator))
    exact = x.double() @ weight.double().t()
    error = (product(weight, precision)(x).double() - exact).std() / exact.std()
    assert error < tolerance


def test_int8_sums_are_exact_at_the_largest_values_too() -> None:
    """Processors without VNNI saturate sums of two products that do not fit 16 bits, and say nothing."""
    weight = torch.full((64, 1024), 3.0)
    weight[32:] *= -1
    for state in (1.0, -1.0):
        seen = product(weight, "int8")(torch.full((MINIMUM_ROWS, 1024), state))
        torch.testing.assert_close(seen, (weight.sum(1) * state).expand(MINIMUM_ROWS, -1))

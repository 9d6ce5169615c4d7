"""A row of a product is a function of that row alone: what "same bytes" stands on."""

import pytest
import torch

from reelmill.compiled import processor_has
from reelmill.sampling import kernels
from reelmill.sampling.kernels import avx2
from reelmill.sampling.kernels.levels import LEVELS
from reelmill.sampling.products import MINIMUM_ROWS, int8_weight, product

CPU = torch.device("cpu")
PRECISIONS = ["float32", "bfloat16", "int8"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("inputs", [96, 1024])
def test_rows_do_not_depend_on_number_order_neighbours_or_threads(precision: str, inputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    multiply = product(torch.randn(4 * inputs, inputs, generator=generator) * 0.1, precision, CPU)
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
    error = (product(weight, precision, CPU)(x).double() - exact).std() / exact.std()
    assert error < tolerance


@pytest.mark.parametrize("pattern", ["equal", "random", "outliers", "zero"])
@pytest.mark.parametrize("own", [True, False])
def test_int8_sums_are_exact_whatever_the_weights(
    pattern: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processors without VNNI saturate sums that do not fit 16 bits, and say nothing."""
    if own and not processor_has("avx2"):
        pytest.skip("this processor has no AVX2: our own product was not run")
    monkeypatch.setattr(avx2, "usable", lambda: own)
    weight = torch.randn(64, 1024, generator=torch.Generator().manual_seed(3))
    if pattern == "equal":
        weight[:] = 3.0
    elif pattern == "outliers":
        weight[:, ::100] *= 50
    elif pattern == "zero":
        weight[:] = 0.0
    weight[32:] *= -1
    low, scale = int8_weight(weight)
    for direction in (1, -1):
        state = torch.cat([torch.ones(1, 1024), weight.sign()]) * direction
        sums = (state * LEVELS).long() @ low.long().t()
        assert torch.equal(product(weight, "int8", CPU)(state), sums.float() * (scale / LEVELS))


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 256), (1024, 4096)])
def test_int8_by_a_gpus_operations_has_the_same_bits(
    inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their product of integers, tried on this processor."""
    if not processor_has("avx512vnni"):
        pytest.skip("the product of PyTorch saturates on this processor: it was not run")
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(outputs, inputs, generator=generator)
    x = torch.tanh(torch.randn(256, inputs, generator=generator))
    x[0], x[1], x[2] = 1.0, -1.0, (torch.arange(inputs) - inputs // 2 + 0.5) / LEVELS  # halves
    x.clamp_(-1, 1)
    expected = product(weight, "int8", CPU)(x)
    monkeypatch.setattr(kernels, "by_loops", lambda _: False)
    assert torch.equal(product(weight, "int8", CPU)(x), expected)


def test_int8_weights_are_near_enough() -> None:
    """A step of an output is a 127th of its largest weight, or a little more."""
    weight = torch.randn(4096, 1024, generator=torch.Generator().manual_seed(4))
    low, scale = int8_weight(weight)
    assert ((low * scale[:, None] - weight).abs() <= scale[:, None] / 2 * 1.0001).all()
    assert (scale * 127 / weight.abs().amax(dim=1)).mean() < 1.1


def test_the_order_of_weights_in_a_group_leaves_their_scale_as_it_is() -> None:
    """Sums of weights decide it; those of floats would depend on the processor's vectors."""
    generator = torch.Generator().manual_seed(6)
    weight = torch.rand(512, 256, generator=generator) + 1.0  # all of one sign: their sums have no room
    quads = weight.reshape(512, 256 // avx2.INPUTS, avx2.GROUP, 4)
    order = torch.randperm(avx2.GROUP, generator=generator)
    _, scale = int8_weight(weight)
    assert torch.equal(int8_weight(quads[:, :, order].reshape(512, 256))[1], scale)
    assert (scale > weight.abs().amax(dim=1) / 127).all()

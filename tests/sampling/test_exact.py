"""Linear layers whose sums have the same bits in any order, and are as good as float32's."""

import pytest
import torch

from reelmill.compiled import processor_has
from reelmill.sampling import kernels
from reelmill.sampling.exact import exact_linear, exponent


def layer(inputs: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(inputs)
    weight = torch.randn(40, inputs, generator=generator) * spread
    return weight, torch.randn(40, generator=generator), torch.randn(30, inputs, generator=generator)


@pytest.mark.parametrize("inputs", [1, 24, 256, 1024, 1500])
@pytest.mark.parametrize("spread", [1e-20, 0.1, 1e6])
def test_any_order_of_inputs_gives_the_same_bits(inputs: int, spread: float) -> None:
    weight, bias, x = layer(inputs, spread)
    expected = exact_linear(weight, bias, exponent(x))(x)
    order = torch.randperm(inputs)
    assert torch.equal(exact_linear(weight[:, order], bias, exponent(x))(x[:, order]), expected)
    # Largest values everywhere, so that no sum may grow beyond what float64 has exactly.
    signs = weight.sign() * weight.abs().max()
    full, ones = exact_linear(signs, bias * 0, 1), torch.full_like(x, 2.0)
    by_hand = (signs.double().sum(1) * 2).float().expand(len(x), -1)
    torch.testing.assert_close(full(ones), by_hand, rtol=2e-5, atol=0)


@pytest.mark.parametrize("inputs", [8, 64, 1024, 1536])
@pytest.mark.parametrize("spread", [1e-20, 0.1, 1e6])
def test_products_of_bytes_give_the_same_bits(
    inputs: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU adds them up, tried on this processor."""
    if not processor_has("avx512vnni"):
        pytest.skip("the product of PyTorch saturates on this processor: it was not run")
    weight, bias, x = layer(inputs, spread)
    x[0], x[1] = x.abs().max(), -x.abs().max()
    weight[0], weight[1], weight[2] = weight.abs().max(), -weight.abs().max(), 0.0
    bias[3] = -torch.inf
    expected = exact_linear(weight, bias, exponent(x))(x)
    monkeypatch.setattr(kernels, "by_loops", lambda _: False)
    assert torch.equal(exact_linear(weight, bias, exponent(x))(x), expected)


@pytest.mark.parametrize("inputs", [24, 1024])
def test_nearly_as_near_as_float32(inputs: int) -> None:
    weight, bias, x = layer(inputs, 0.1)
    exact = x.double() @ weight.double().t() + bias.double()
    error = (exact_linear(weight, bias, exponent(x))(x).double() - exact).abs().max()
    assert error < 6 * (x @ weight.t() + bias - exact).abs().max()

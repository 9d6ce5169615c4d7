"""The int8 product by a loop of our own, beside integers and beside the library's."""

import pytest
import torch

from reelmill.compiled import processor_has
from reelmill.sampling.kernels import avx2
from reelmill.sampling.products import library_multiplier

pytestmark = pytest.mark.skipif(
    not processor_has("avx2"), reason="this processor has no AVX2: our own product was not run"
)
ZERO = 32


def layer(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(inputs)
    weight = torch.randint(-30, 31, (outputs, inputs), generator=generator, dtype=torch.int8)
    return weight, torch.rand(outputs, generator=generator) * 0.01


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (256, 64), (384, 96), (4096, 1024), (256, 2048)])
@pytest.mark.parametrize("rows", [4, 5, 32, 47])
def test_sums_are_exact_and_the_librarys(outputs: int, inputs: int, rows: int) -> None:
    weight, scale = layer(outputs, inputs)
    levels = torch.randint(2 * ZERO + 1, (rows, inputs), dtype=torch.uint8)
    seen = avx2.multiplier(weight, scale, ZERO)(levels)
    assert torch.equal(seen, ((levels.long() - ZERO) @ weight.long().t()).float() * scale)
    # oneDNN has kernels of its own for few rows, which the engine never asks for.
    if rows >= 32:
        assert torch.equal(seen, library_multiplier(weight, scale, ZERO)(levels))


def test_a_group_may_fill_its_16_bits() -> None:
    weight = torch.zeros(16, 64, dtype=torch.int8)
    weight.view(16, 2, avx2.GROUP, 2, 2)[:, :, :, 0] = 31  # 16 weights of 31 by 64 are 31,744
    weight[8:] *= -1
    levels = torch.full((4, 64), 2 * ZERO, dtype=torch.uint8)
    seen = avx2.multiplier(weight, torch.ones(16), ZERO)(levels)
    assert torch.equal(seen, ZERO * weight.sum(1, dtype=torch.float32).expand(4, -1))


def test_other_shapes_are_refused() -> None:
    weight, scale = layer(64, 64)
    for wrong in (weight[:40], weight[:, :48]):
        with pytest.raises(ValueError, match="multiples of 16 and 32"):
            avx2.multiplier(wrong, scale[: len(wrong)], ZERO)
    multiply = avx2.multiplier(weight, scale, ZERO)
    for levels in (torch.zeros(3, 64), torch.zeros(8, 32), torch.zeros(8, 64, dtype=torch.int8)):
        with pytest.raises(ValueError, match="uint8"):
            multiply(levels if levels.dtype == torch.int8 else levels.to(torch.uint8))

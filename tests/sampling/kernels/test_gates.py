"""The gates in one pass, beside PyTorch's functions."""

import pytest
import torch

from reelmill.sampling.kernels.gates import turn, turn_by_pytorch, turn_plainly

LINES = 7


def states(rows: int, size: int, spread: float = 4.0) -> list[torch.Tensor]:
    """A product, a table, lines of it, and a layer's state."""
    generator = torch.Generator().manual_seed(rows)
    return [
        torch.randn(rows, 4 * size, generator=generator) * spread,
        torch.randn(LINES, 4 * size, generator=generator) * spread,
        torch.randint(LINES, (rows,), generator=generator),
        torch.randn(rows, size, generator=generator),
        torch.randn(rows, size, generator=generator) * spread,
    ]


def exactly(
    product: torch.Tensor, table: torch.Tensor, lines: torch.Tensor, cell: torch.Tensor
) -> list[torch.Tensor]:
    """The new state in float64 by an LSTM's formulas; ``cell`` is twice its, candidates are doubled."""
    gates = (product + table[lines]).double()
    opened, kept, candidate, shown = gates.chunk(4, dim=1)
    new = kept.sigmoid() * cell.double() / 2 + opened.sigmoid() * (candidate / 2).tanh()
    return [shown.sigmoid() * new.tanh(), 2 * new]


@pytest.mark.parametrize(("rows", "size"), [(1, 8), (32, 64), (47, 128), (256, 1024)])
@pytest.mark.parametrize("spread", [0.1, 4.0, 200.0])
def test_as_exact_as_pytorch(rows: int, size: int, spread: float) -> None:
    product, table, lines, hidden, cell = states(rows, size, spread)
    expected = exactly(product, table, lines, cell)
    for do in (turn, turn_by_pytorch, turn_plainly):
        seen = hidden.clone(), cell.clone()
        do(product.clone(), table, lines, *seen)
        torch.testing.assert_close(seen[0].double(), expected[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(seen[1].double(), expected[1], rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 7), (47, 128), (256, 1024)])
@pytest.mark.parametrize("spread", [0.01, 4.0, 200.0])
def test_the_bits_of_one_operation_after_the_other(rows: int, size: int, spread: float) -> None:
    """Nothing is fused or reordered."""
    product, table, lines, hidden, cell = states(rows, size, spread)
    product[0, 0], product[-1, -1], product[0, -1] = torch.inf, -torch.inf, torch.nan
    plain = hidden.clone(), cell.clone()
    turn_plainly(product, table, lines, *plain)
    turn(product, table, lines, hidden, cell)
    for seen, expected in zip((hidden, cell), plain, strict=True):
        torch.testing.assert_close(seen, expected, rtol=0, atol=0, equal_nan=True)


def test_a_row_depends_on_itself_alone() -> None:
    product, table, lines, hidden, cell = states(64, 64)
    some = [product[5:37].clone(), table, lines[5:37], hidden[5:37].clone(), cell[5:37].clone()]
    turn(product, table, lines, hidden, cell)
    turn(*some)
    assert torch.equal(some[3], hidden[5:37]) and torch.equal(some[4], cell[5:37])


def test_the_largest_values_saturate_and_what_is_no_number_stays_so() -> None:
    product, table, lines, hidden, cell = states(4, 8)
    table.zero_()
    product[0], product[1], product[2] = torch.inf, -torch.inf, torch.nan
    before = cell.clone()
    turn(product, table, lines, hidden, cell)
    torch.testing.assert_close(cell[0], before[0] + 2)
    torch.testing.assert_close(cell[1], torch.zeros(8))
    assert hidden[2].isnan().all() and cell[2].isnan().all()
    assert hidden[3].isfinite().all()


@pytest.mark.parametrize("line", [-1, LINES])
def test_a_line_that_the_table_does_not_have_is_refused(line: int) -> None:
    given = states(4, 8)
    given[2][1] = line
    with pytest.raises(IndexError, match="of a table of 7"):
        turn(*given)


@pytest.mark.parametrize("changed", range(5))
def test_other_shapes_are_refused(changed: int) -> None:
    given = states(4, 8)
    given[changed] = given[changed][..., :-1].contiguous()
    with pytest.raises(ValueError):
        turn(*given)

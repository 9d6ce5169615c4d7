"""The pointer of one character, beside PyTorch's operations and beside the attention it is."""

import pytest
import torch

from reelmill.metrical.kernels.counting import ANCHOR
from reelmill.sampling.kernels.places import add_places, add_places_by_pytorch
from reelmill.sampling.kernels.pointing import Biases, point, point_by_pytorch

SIZE, WIDTH, WINDOW = 40, 24, 50


def places(rows: int, keys: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Rows that have read 0, 3, 6 … characters, with keys, anchors and texts."""
    generator = torch.Generator().manual_seed(rows)
    limit = torch.iinfo(keys).max if keys is torch.int8 else 4000

    def integers(high: int, *shape: int, low: int = 0) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    spoken = torch.randn(rows, SIZE + 1, generator=generator) * 4
    spoken[:, 0] = -torch.inf  # the start mark
    return (
        torch.randn(rows, 2 * WIDTH, generator=generator),
        spoken,
        integers(40, rows) * (ANCHOR // 2),
        integers(limit, rows, WINDOW, WIDTH, low=-limit).to(keys),
        integers(40, rows, WINDOW) * (ANCHOR // 2),
        integers(SIZE, rows, 200, low=1).to(torch.uint8),
        torch.arange(rows) * 3,
    )


BIASES = Biases(torch.linspace(2, -2, WINDOW), torch.linspace(0, 3, 9))


def test_the_bits_of_one_operation_after_the_other() -> None:
    loops, plain = places(60, torch.int8), places(60, torch.int8)
    assert torch.equal(point(*loops, BIASES, 127), point_by_pytorch(*plain, BIASES, 127))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(loops, plain, strict=True))


@pytest.mark.parametrize(("keys", "levels"), [(torch.int8, 127), (torch.int16, 4000)])
def test_it_is_an_attention_mixed_with_the_vocabulary(keys: torch.dtype, levels: int) -> None:
    given = places(60, keys)
    asked, spoken, anchor, before, anchors, text, position = (each.clone() for each in given)
    found = point(*given, BIASES, levels).exp().double()
    for row in range(60):
        chances = spoken[row, :-1].double().softmax(0)
        expected = chances
        read = range(max(0, int(position[row]) - WINDOW), int(position[row]))
        if read:
            query = torch.round(torch.tanh(asked[row, :WIDTH].double()) * levels) / levels
            scores = []
            for place in read:
                ago = int(anchor[row] - anchors[row, place % WINDOW]) / ANCHOR
                same = ago.is_integer() and 0 <= ago < 9
                score = query @ before[row, place % WINDOW].double() / levels / WIDTH**0.5
                score += (
                    BIASES.distance[int(position[row]) - 1 - place] + BIASES.bars[int(ago) if same else 0]
                )
                scores.append(score)
            copied = torch.zeros(SIZE, dtype=torch.float64)
            copied.index_add_(0, text[row, read.start : read.stop].long(), torch.stack(scores).softmax(0))
            gate = spoken[row, -1].double().sigmoid()
            expected = (1 - gate) * chances + gate * copied
        torch.testing.assert_close(found[row], expected, rtol=1e-3, atol=1e-6)  # queries are rounded


def test_the_present_place_is_kept_and_others_stay() -> None:
    given = places(60, torch.int8)
    before = given[3].clone()
    point(*given, BIASES, 127)
    for row, position in enumerate(given[6].tolist()):
        key = torch.round(torch.tanh(given[0][row, WIDTH:]) * 127)
        assert (given[3][row, position % WINDOW] - key).abs().max() <= 1
        assert given[4][row, position % WINDOW] == given[2][row]
        others = torch.arange(WINDOW) != position % WINDOW
        assert torch.equal(given[3][row, others], before[row, others])


def test_places_are_added_with_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(1)
    gates, into, beside = (torch.randn(lines, 64, generator=generator) for lines in (33, 20, 20))
    lines = torch.randint(20, (33, 4), generator=generator)
    plain = gates.clone()
    shown, expected = (
        add_places(gates, into, beside, lines),
        add_places_by_pytorch(plain, into, beside, lines),
    )
    assert torch.equal(gates, plain) and torch.equal(shown, expected)
    torch.testing.assert_close(shown, torch.tanh(beside[lines].sum(1)), rtol=0, atol=1e-6)

"""A sum in a fixed order has the same bits whichever process holds which part."""

import pytest
import torch

from reelmill.training.gradients import OrderedSum, nodes_of, padded, shares


def summed(vectors, world):
    """As ``exchange`` does it, with the processes one after the other."""
    gathered = OrderedSum()
    for share in shares(len(vectors), world):
        mine = OrderedSum()
        for piece in share:
            mine.add((0, piece), vectors[piece].clone())
        assert mine.nodes == nodes_of(share)
        for node, value in zip(mine.nodes, mine.values, strict=True):
            gathered.add(node, value)
    return gathered.total()


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 7, 8, 12, 13])
def test_bits_do_not_depend_on_the_number_of_processes(pieces):
    generator = torch.Generator().manual_seed(pieces)
    vectors = [torch.randn(500, generator=generator) * 10.0**place for place in range(pieces)]
    alone = summed(vectors, 1)
    for world in range(2, pieces + 1):
        assert torch.equal(summed(vectors, world), alone)
    torch.testing.assert_close(alone.double(), torch.stack(vectors).double().sum(0), rtol=1e-4, atol=1e-3)


def test_shares_cover_everything_evenly():
    for total in range(1, 20):
        for parts in range(1, total + 1):
            cut = shares(total, parts)
            assert [item for share in cut for item in share] == list(range(total))
            assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_equal_powers_of_two_send_one_vector_each():
    assert [nodes_of(share) for share in shares(16, 4)] == [[(2, 0)], [(2, 1)], [(2, 2)], [(2, 3)]]


def test_padding():
    assert [padded(length, 4) for length in (1, 4, 5)] == [4, 4, 8]

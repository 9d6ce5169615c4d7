"""The random numbers are Philox's, and a function of their key alone."""

import pytest
import torch

from reelmill.sampling.kernels.streams import blocks, philox, uniforms


def words(counter: list[int], key: tuple[int, int]) -> list[int]:
    return [int(word) for word in philox(tuple(torch.tensor(value) for value in counter), key)]


def test_known_answers_of_philox4x32_10() -> None:
    """The known-answer vectors that the Random123 distribution publishes."""
    ones = 0xFFFFFFFF
    assert words([0, 0, 0, 0], (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words([ones] * 4, (ones, ones)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert words(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_a_number_does_not_depend_on_its_neighbours() -> None:
    songs, attempts = torch.arange(50)[:, None], torch.arange(50)[:, None] % 3
    together = uniforms(5, songs, attempts, torch.arange(20))
    alone = uniforms(5, torch.tensor([31]), torch.tensor([1]), torch.tensor([17]))
    assert together[31, 17] == alone[0]


def test_each_part_of_the_key_matters() -> None:
    one = torch.tensor([1])
    base = uniforms(1, one, one, one)
    assert len({float(value) for value in (
        base,
        uniforms(2, one, one, one),
        uniforms(1 + 2**40, one, one, one),
        uniforms(1, one + 2**40, one, one),
        uniforms(1, one + 1, one, one),
        uniforms(1, one, one + 1, one),
        uniforms(1, one, one, one + 1),
    )}) == 7  # fmt: skip


def test_uniform_in_the_half_open_interval() -> None:
    values = uniforms(0, torch.arange(1000)[:, None], torch.zeros(1, dtype=torch.int64), torch.arange(1000))
    assert values.min() >= 0 and values.max() < 1
    counts = torch.histc(values, bins=100, min=0, max=1)
    chi_squared = float(((counts - 10_000) ** 2 / 10_000).sum())
    assert 55 < chi_squared < 160  # 99 degrees of freedom: outside with probability below 1e-4


@pytest.mark.parametrize("length", [1, 7, 8, 32])
def test_blocks_are_the_same_numbers(length: int) -> None:
    generator = torch.Generator().manual_seed(1)
    songs = torch.randint(2**62, (50,), generator=generator)
    attempts = torch.randint(2**40, (50,), generator=generator)
    positions = torch.randint(2**32 - 64, (50,), generator=generator)
    positions[0] = 2**32 - 3  # where the counter's word ends
    for seed in (0, 7, 2**63 - 1, 0xFEDCBA9876543210):
        expected = uniforms(
            seed, songs[:, None], attempts[:, None], positions[:, None] + torch.arange(length)
        )
        assert torch.equal(blocks(seed, songs, attempts, positions, length), expected)
    assert blocks(1, songs[:0], attempts[:0], positions[:0], length).shape == (0, length)

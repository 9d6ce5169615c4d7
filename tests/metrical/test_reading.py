"""The metrical automaton counts as ``notation.bars`` does, wherever it stops and goes on, on any device."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import reelmill
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import RequestError
from reelmill.metrical.kernels.counting import ANCHOR, WHOLE
from reelmill.metrical.reading import SIZES, Reader
from reelmill.notation.bars import read_bars
from reelmill.notation.header import split_tune
from reelmill.notation.meter import parse_meter

CPU = torch.device("cpu")
HEAD = "X:1\nM:4/4\nL:1/8\nK:D\n"


@pytest.fixture(scope="module")
def tunes() -> list[str]:
    try:
        return [
            text for name in ("irish", "traditional") for text in reelmill.load_corpus(name)["train"]["text"]
        ]
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")


def places(text: str) -> np.ndarray:
    """The place behind each character of ``text``."""
    vocabulary = Vocabulary.from_texts([text])
    reader = Reader(vocabulary, CPU)
    characters = torch.from_numpy(np.concatenate([[START], vocabulary.encode(text)]))[None]
    return reader.read(characters, reader.begin(1))[0, 1:].numpy()


def bars(text: str) -> list[Fraction]:
    """Whole notes that each bar of ``text`` lasts, by the automaton."""
    lasted = (places(text)[:, 4] % ANCHOR).tolist()
    lasted = [0 if anchor == ANCHOR - 1 else anchor for anchor in lasted]
    ends = [before for before, after in zip(lasted, [*lasted[1:], 0], strict=True) if before and not after]
    return [Fraction(ticks, WHOLE) for ticks in ends]


def by_notation(text: str) -> list[Fraction] | None:
    meter = parse_meter(dict(split_tune(text)[0]).get("M", ""))
    if meter is None:
        return None
    voices = read_bars(text, meter)
    return [bar.lasts for bar in voices[0]] if len(voices) == 1 else None


def test_bars_of_real_tunes_last_what_notation_says(tunes: list[str]) -> None:
    known = [(text, expected) for text in tunes if (expected := by_notation(text)) and "&" not in text]
    wrong = [text for text, expected in known if bars(text) != expected]
    assert len(known) > 4000
    assert not wrong, f"{len(wrong)} of {len(known)}, the first:\n{wrong[0]}"


@pytest.mark.parametrize(
    ("body", "lasts"),
    [
        ("A2B/c/ d>e f<<g|", "1/4 1/8 1/8 1/8 1/4"),
        ("(3ABc (3:2:2d2e2 [Ace]2|", "1/4 1/3 1/4"),
        ('{ab}A4 "Am"B,,2 !trill!c\'/|', "1/2 1/4 1/16"),
        ("z2 Z|", "1/4 1"),
        ("[M:6/8][L:1/4]A [K:G]B3/2|", "1/4 3/8"),
        ("A3>B|", "3/8 1/8"),
    ],
)
def test_what_a_bar_lasts(body: str, lasts: str) -> None:
    assert bars(HEAD + body + "\n") == [sum(map(Fraction, lasts.split()), Fraction(0))]


def test_bars_and_sections_are_numbered() -> None:
    body = "DE|F8|F8|1F8|F6:|2F8|G8||\n|:A8|A8:|\n"
    numbers = {c: set() for c in "FGA"}
    for character, place in zip(HEAD + body, places(HEAD + body), strict=True):
        if character in numbers and place[0]:
            numbers[character].add((int(place[2]), int(place[3])))
    assert numbers["F"] == {(1, 1), (2, 1), (3, 1), (4, 1)}
    assert numbers["G"] == {(4, 1)}
    assert numbers["A"] == {(1, 2), (2, 2)}


def test_a_reader_stops_and_goes_on_anywhere_and_does_the_same_by_pytorch(tunes: list[str]) -> None:
    chosen = (
        tunes[:3] + tunes[-3:] + ["".join(np.random.default_rng(1).permutation(list(t))) for t in tunes[:6]]
    )
    vocabulary = Vocabulary.from_texts(chosen)
    time = min(map(len, chosen))
    rows = torch.stack([torch.from_numpy(vocabulary.encode(text)[:time]) for text in chosen])
    rows = torch.cat([torch.full((len(rows), 1), START), rows], dim=1)
    rows[::2, time // 2] = END
    rows[::2, time // 2 + 1] = START  # another tune in the same row
    reader = Reader(vocabulary, CPU)
    whole = reader.read(rows, reader.begin(len(rows)))
    counters, pieces = reader.begin(len(rows)), []
    for begin in range(0, time + 1, 7):
        pieces.append(reader.read(rows[:, begin : begin + 7], counters))
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    plain = reader.begin(len(rows))
    assert torch.equal(reader.read_by_pytorch(rows, plain), whole)
    assert torch.equal(plain, counters)
    assert all(
        0 <= whole[..., part].min() <= whole[..., part].max() < size for part, size in enumerate(SIZES)
    )

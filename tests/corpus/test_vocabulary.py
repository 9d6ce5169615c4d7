"""A vocabulary turns text into numbers and back, the same on every machine."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import DamagedError, RequestError

any_text = st.text(st.characters(exclude_categories=[]))


@given(st.lists(any_text, min_size=1))
def test_known_text_survives_the_round_trip_without_using_the_marks(texts: list[str]) -> None:
    vocabulary = Vocabulary.from_texts(texts)
    for text in texts:
        numbers = vocabulary.encode(text, unknown="error")
        assert numbers.dtype == np.int64 and len(numbers) == len(text)
        assert START not in numbers and END not in numbers
        assert vocabulary.decode(numbers) == text
        assert list(numbers) == [vocabulary.char2idx[character] for character in text]


@given(any_text, any_text)
def test_unknown_characters_are_dropped_or_refused(known: str, other: str) -> None:
    vocabulary = Vocabulary.from_texts([known])
    kept = "".join(character for character in other if character in known)
    assert vocabulary.decode(vocabulary.encode(other)) == kept
    if kept != other:
        with pytest.raises(ValueError, match="not in the vocabulary"):
            vocabulary.encode(other, unknown="error")


@given(st.lists(any_text))
def test_the_order_of_texts_does_not_matter(texts: list[str]) -> None:
    assert Vocabulary.from_texts(texts) == Vocabulary.from_texts(reversed(texts))


def test_the_two_tables_are_inverse_and_begin_with_the_marks() -> None:
    vocabulary = Vocabulary.from_texts(["X:1\nK:C\nabc|\n"])
    assert vocabulary.idx2char[START] == "<start>" and vocabulary.idx2char[END] == "<end>"
    assert [vocabulary.char2idx[item] for item in vocabulary.idx2char] == list(range(vocabulary.size))
    assert vocabulary.decode([START, *vocabulary.encode("abc"), END]) == "abc"
    with pytest.raises(IndexError):
        vocabulary.decode([vocabulary.size])
    with pytest.raises(IndexError):
        vocabulary.decode([-1])


@given(any_text)
def test_json_keeps_it(text: str) -> None:
    vocabulary = Vocabulary.from_texts([text])
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_a_file_keeps_it_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    vocabulary = Vocabulary.from_texts(["Seán Ó Riada \ud800 𝄞\n"])
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary

    text = path.read_text()
    for damaged in (
        text[: len(text) // 2],
        "[]",
        '{"start":0,"end":1,"characters":["ab"]}',
        '{"start":3,"end":1}',
    ):
        path.write_text(damaged)
        with pytest.raises(DamagedError, match=r"vocabulary\.json"):
            Vocabulary.load(path)
    with pytest.raises(RequestError, match="absent"):
        Vocabulary.load(tmp_path / "absent.json")

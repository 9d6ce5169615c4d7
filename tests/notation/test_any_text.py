"""Whatever the text, the notation room answers, and only ever with NotATune."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.notation.bars import bars_problem
from reelmill.notation.book import split_book
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.header import header
from reelmill.notation.intervals import interval_text
from reelmill.notation.tokens import tokenize
from reelmill.notation.transposition import transpose
from reelmill.notation.validity import headers_problem

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]

pieces = st.sampled_from(
    [
        *"abcdefgABCDEFGzxyZ0123456789/|:[](){}<>-.~^_=!\"'`,+&\\%$#*TuvHkSXKM \n\r\t\x0b\x00é",
        *(
            "[K:",
            "[M:3/4]",
            "\nM:",
            "\nK:",
            "\nX:",
            "\nw:",
            "1/8",
            "6/8",
            "C|",
            "Ador",
            "\n\n",
            "%%x\n",
            "=20",
        ),
        *("(3", "(3::", "|1", ":|2", "[1", "::", "|]", "[|", "\\\n", "{ag}", "[CEG]", "+CE+"),
        *('"Am"', '"^x"', "!trill!", "!4!"),
    ]
)
music = st.lists(pieces, max_size=60).map("".join)
tunes = st.builds(
    lambda head, body: f"X:1\n{head}K:G\n{body}", st.sampled_from(["", "M:6/8\n", "M:C\nL:1/4\n"]), music
)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(tunes, music, st.text()))
def test_every_function_answers_whatever_the_text(text: str) -> None:
    assert isinstance(headers_problem(text), str)
    assert isinstance(bars_problem(text), str)
    assert isinstance(interval_text(text), str)
    header(text)
    split_book(text)
    assert "".join(token.text for token in tokenize(text)) == text
    with contextlib.suppress(NotATune):
        transpose(text, 3)


@settings(max_examples=3000, deadline=None)
@given(st.one_of(tunes, tunes, music))
def test_the_canonical_form_is_a_fixed_point_and_has_its_headers(text: str) -> None:
    with contextlib.suppress(NotATune):
        tune = canonical(text, FIELDS)
        assert canonical(tune, FIELDS) == tune
        assert headers_problem(tune) == ""
        assert split_book(tune) == [tune]


# Ten times as much would take a hundred times as long, were one of these read in quadratic time.
@pytest.mark.parametrize(
    "piece",
    [
        *'A([{"!%\\|:^1 \n',
        *("[A:", "+A", "(3", "A/", "A>", "A-", "&A", '"A', "!a", "[K:C]", "[V:1]A|", "\\\n", "A999/997"),
        *("\0", "X:1\n", "\nX:1\nK:C\nA\n", "A\n\n", "K:C\n"),
    ],
)
def test_long_texts_of_one_piece_are_read_in_linear_time(piece: str) -> None:
    text = "X:1\nM:6/8\nK:C\n" + piece * (50_000 // len(piece))
    headers_problem(text)
    bars_problem(text)
    interval_text(text)
    for function in (lambda: canonical(text, FIELDS), lambda: transpose(text, 1)):
        with contextlib.suppress(NotATune):
            function()
    split_book(text)


def test_ten_megabytes_on_one_line_are_no_tune() -> None:
    with pytest.raises(NotATune):
        canonical("X:1\nK:C\n" + "ABc|" * 2_500_000, FIELDS)
    assert len(split_book("X:1" + "A" * 10_000_000)) == 1

import pytest

from reelmill.notation.book import split_book

BOOK = """\ufeff%abc-2.1
M:6/8
% a file header

X:1
T:One
K:G
GAB|

Free text about the next tune,
which is none.

X:2
T:Two
K:D
d2|
X:3
K:A
a2|
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_tune_starts_at_x_and_ends_at_a_blank_line_or_the_next_x(end: str) -> None:
    assert split_book(BOOK.replace("\n", end)) == [
        "X:1\nM:6/8\nT:One\nK:G\nGAB|\n",
        "X:2\nM:6/8\nT:Two\nK:D\nd2|\n",
        "X:3\nM:6/8\nK:A\na2|\n",
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "no tune here", "\0\x01\xff" * 100, "K:G\nGAB|\n"])
def test_a_text_without_tunes_gives_none(text: str) -> None:
    assert split_book(text) == []


def test_separators_other_than_line_ends_do_not_split_a_line() -> None:
    assert split_book("X:1\nT:a\x85b\u2028c\x0cd\nK:G\nG|\n") == ["X:1\nT:a\x85b\u2028c\x0cd\nK:G\nG|\n"]


def test_the_real_books_hold_the_tunes_they_are_known_to_hold(raw_tunes: list[str]) -> None:
    assert len(raw_tunes) == 804 + 4248

import pytest

from reelmill.notation.canonical import canonical


def body(written: str) -> str:
    return (
        canonical(f"X:1\nM:6/8\nK:G\n{written}\n", ["M"]).removeprefix("X:1\nM:6/8\nK:G\n").removesuffix("\n")
    )


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("d-c A2-|A", "dc A2-|A"),
        ("^c-|c {d}B-{c}B", "^c-|c {d}B-{c}B"),  # the same place of the staff, grace notes apart
        ("c-c' C-c", "cc' Cc"),
        ("A-z B-|\nB", "Az B-|\nB"),
        ("[CE]-[CF] [CE]-C", "[CE]-[CF] [CE]-C"),  # one of the notes may be tied
        ("A-[V:2]B", "A-[V:2]B"),
    ],
)
def test_only_ties_that_can_tie_stay(written: str, repaired: str) -> None:
    assert body(written) == repaired


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("A:|B|1 c:|2 d|]", "A:||:B|1 c:|2 d|]"),
        ("A:|\nB|[1 c:|[2 d|]", "A:|\n|:B|[1 c:|[2 d|]"),
        ('A:|\nK:D\n| "D"B|[1 c:|[2 d|]', 'A:|\nK:D\n| |:"D"B|[1 c:|[2 d|]'),
        ("A|1 B:|2 c:|d|1 e:|2 f|]", "A|1 B:|2 c:||:d|1 e:|2 f|]"),
        ("A:|\n|:B|[1 c:|[2 d|]", "A:|\n|:B|[1 c:|[2 d|]"),  # opened already
        ("A::B|1 c:|2 d|]", "A::B|1 c:|2 d|]"),
        ("A|1 B:|2 c|]", "A|1 B:|2 c|]"),  # the beginning opens it
        ("A:|B:|", "A:|B:|"),  # no endings: every player understands
    ],
)
def test_a_repeat_with_endings_is_opened_once(written: str, repaired: str) -> None:
    assert body(written) == repaired
    assert body(repaired) == repaired

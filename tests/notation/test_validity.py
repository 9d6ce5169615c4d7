import pytest

from reelmill.notation.validity import headers_problem, numbered


@pytest.mark.parametrize(
    ("abc", "problem"),
    [
        ("X:1\nT:A tune\nM:6/8\nL:1/8\nK:Ador\nABc|\n", ""),
        ("X:1\nK:G\nGAB|", ""),
        ("", "no X field first"),
        ("T:A tune\nK:G\nGAB|\n", "no X field first"),
        ("X:T\nK:G\nGAB|\n", "an X field without a number"),
        ("X:1/8\nK:G\nGAB|\n", "an X field without a number"),
        ("X:1\nT:A tune\nGAB|\n", "no K field"),
        ("X:1\nK:H\nGAB|\n", "unknown key"),
        ("X:1\nM:6/7\nK:G\nGAB|\n", "malformed meter"),
        ("X:1\nL:x\nK:G\nGAB|\n", "malformed unit note length"),
        ("X:1\nK:G\n", "no notes"),
        ("X:1\nK:G\nz4|:|\nM:3/4\n", "no notes"),
        ("X:1\nK:G\n\nGAB|\n", "a blank line within"),
        ("X:1\nK:G\nGAB|\nX:2\nK:D\nd|\n", "a second X field"),
        ("X:1\nX:2\nK:D\nd|\n", "a second X field"),
    ],
)
def test_a_tune_has_x_a_known_key_and_notes(abc: str, problem: str) -> None:
    assert headers_problem(abc) == problem


def test_every_canonical_real_tune_passes(pairs: list[tuple[str, str]]) -> None:
    assert not any(headers_problem(tune) for _, tune in pairs)


@pytest.mark.parametrize("first", ["X:1", "X:", "X:|", "X:1/8", "X: 12 % mine"])
def test_a_number_takes_the_place_of_whatever_stands_there(first: str) -> None:
    assert numbered(f"{first}\nT:X:\nK:G\nGAB|\n", 7) == "X:7\nT:X:\nK:G\nGAB|\n"


def test_what_has_no_x_field_gets_none() -> None:
    for abc in ("", "T:A tune\nX:1\nK:G\nGAB|\n", "X:1"):
        assert numbered(abc, 7) == abc

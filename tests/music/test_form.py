"""The ``form`` tier: what has the sections of a dance tune passes, what has not is told why."""

import datasets
import pytest

from reelmill.music.form import form_problem, letters, read_sections
from reelmill.music.score import read_score

PHRASE = "GABc dedB|c2ec B2dB|A2cA G2BG|"
EIGHT = PHRASE + "FGAF D4|" + PHRASE + "DEFA G4"


def reel(body: str) -> str:
    return f"X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n{body}\n"


@pytest.mark.parametrize(
    "body",
    [
        f"|:{EIGHT}:|\n|:{EIGHT}:|",
        f"{EIGHT}:|\n{EIGHT}:|",  # as most people write it
        f"{EIGHT}||{EIGHT}|]",
        f"|:D2|{EIGHT[:-2]}2:|:B2|{EIGHT[:-2]}2:|",  # pickups, and the bars they complete
        f"D2|:{EIGHT}:|B2|:{EIGHT}|]",  # pickups before the signs
        f"|:{EIGHT[:-8]}|1DEFA G4:|2DEFA G2||\n{EIGHT}|]",  # endings are alternatives
        f"|:{EIGHT[:-8]}|1DEFA G4:|2DEFA G4|\n{EIGHT}|]",  # a second one that no sign closes
        f"|:{PHRASE}D4::{EIGHT}:|",  # four bars, the last of which leads on
        f"|:{PHRASE}D2|E2F4:|:{PHRASE}G4:|",  # a bar that a line divides
        f"V:1\n|:{EIGHT}:|\nV:2\nG8|\nV:1\n|:{EIGHT}:|\nV:2\nG8|",
    ],
)
def test_the_sections_of_dance_tunes_pass(body: str) -> None:
    assert form_problem(reel(body)) == ""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (f"|:{EIGHT.partition('|')[2]}:|:GABc d4|{EIGHT}:|", "section 1 has 7 bars"),  # of 7 + 9
        (f"|:{EIGHT}:|:GABc d4|{EIGHT}:|", "section 2 has 9 bars"),
        (f"|:{EIGHT}:|", "one section"),  # the second part never comes
        (f"|:{EIGHT}:|\n|:B2|", "one section"),
        (f"|:{EIGHT}:|\n|:GABc d4|e4", "section 2 has 2 bars"),
        (f"|:{EIGHT}:|:{EIGHT}:|GABc d4|", "section 3 has 1 bar"),
        ("", "no section"),
        ("M:none\nGABc:|GABc:|", "free meter"),
    ],
)
def test_others_are_told_why(body: str, problem: str) -> None:
    assert form_problem(reel(body)) == problem


def test_a_tune_without_meter_has_no_bars_to_count() -> None:
    assert form_problem(reel(f"{EIGHT}:|{EIGHT}:|").replace("M:4/4\n", "")) == "no meter"


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (f"|:{EIGHT}:|:{EIGHT.replace('B', 'b')}:|", "AABB"),
        (f"{EIGHT}||{EIGHT.replace('B', 'b')}|]", "AB"),
        (f"|:{EIGHT}:|{EIGHT.replace('B', 'b')}|]", "AAB"),
        (f"{EIGHT}||{EIGHT.replace(PHRASE, 'gfgd e4|c4 d4|e4 f4|', 1)}|]", "AB"),  # one close for both
        (f"{EIGHT}||{EIGHT}||{EIGHT.replace('B', 'b')}||{EIGHT.replace('DEFA', 'D2A2')}|]", "AABA"),
        (f"|:{EIGHT[:-8]}|1DEFA G4:|2DEFA G2||\n{EIGHT.replace('B', 'b')}|]", "AAB"),
    ],
)
def test_the_form_as_letters(body: str, form: str) -> None:
    assert letters(read_sections(read_score(reel(body)))) == form


def test_real_tunes_pass_on_either_side_of_the_split(irish: datasets.DatasetDict) -> None:
    held_out = [*irish["validation"]["text"], *irish["test"]["text"]]
    rates = [
        sum(not form_problem(abc) for abc in texts) / len(texts)
        for texts in (irish["train"]["text"], held_out)
    ]
    assert min(rates) > 0.95 and abs(rates[0] - rates[1]) < 0.03

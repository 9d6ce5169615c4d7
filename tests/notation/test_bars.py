import random
import re

import pytest

from reelmill.notation.bars import bars_problem, wrong_bar


def jig(body: str) -> str:
    return f"X:1\nM:6/8\nL:1/8\nK:G\n{body}\n"


@pytest.mark.parametrize(
    "body",
    [
        "GAB cde|def g3|",
        "D|GAB cde|def g2:|",  # a pickup and the bar it completes
        "D|GAB cde|def g2:|:e|fga gfe|def g2|]",  # each part with its own
        "GAB cde|1 def g2D:|2 def g3|]",
        "GAB cde|[1 def g3:|[2 def g2||",
        "GAB cde|def::gab cde|def g3:|",  # a bar split by a repeat
        "GAB c2\nd|def g3|GAB c2|d|def g3|",  # and by a bar line
        "(3GAB c2 de|(3:2:3GAB (2de f|(3G/A/B/c d (4efga|",
        "G>AB c<de|G3/2A/2B c//d///e///f/g/4g/4a3/2|G>>AB cde|",
        "{ag}f3 {/g}[GBd]3|[G2B2]2 [GB]/c/d|(G-GA) ~B.cHd|",
        '"Em"EGB e3|z6|Z|x3 z3|Z4|GAB cde|',
        "GAB cde|[M:9/8] GAB cde fga|[M:6/8][L:1/16]G2A2B2 c2d2e2|",
        "GAB cde|\nM:2/4\nGABc|\nL:1/4\nGA|\nK:D\nd2|",
        "GAB cde|def g3&G3 B3|GAB cde|",
        "[V:1]GAB cde|[V:2]G3 G3|[V:1]def g3|[V:2]D6|",
        "|GAB cde|]\n|:GAB cde:|",
        "GAB \\\ncde|% a comment\ndef g3|",
    ],
)
def test_right_bars_pass(body: str) -> None:
    assert bars_problem(jig(body)) == ""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("GAB cde|def gg|GAB cde|", "bar 2 lasts 5/8 of 6/8"),
        ("D|GAB cde|def gab c|GAB cde|", "bar 2 lasts 7/8 of 6/8"),
        ("GAB cde|def gab c:|", "bar 2 lasts 7/8 of 6/8"),
        ("GAB cde|G/AB cde|GAB cde|", "bar 2 lasts 11/16 of 6/8"),
        ("GAB cde|G>AB cd|GAB cde|", "bar 2 lasts 5/8 of 6/8"),
        ("GAB cde|[M:2/4]GAB cde|", "bar 2 lasts 3/4 of 2/4"),
        ("GAB cde|[M:2/4]GA B2 z2|", "bar 2 lasts 3/4 of 2/4"),
        ("D2:|", "no full bar"),
        ("", "no full bar"),
    ],
)
def test_wrong_bars_are_named(body: str, problem: str) -> None:
    assert bars_problem(jig(body)) == problem


@pytest.mark.parametrize(
    ("meter", "body"),
    [
        ("C", "GABc defg|"),
        ("C|", "GABc defg|"),
        ("4/4", "GABc defg|"),
        ("2/4", "GABc defg|"),
        ("3/4", "GABcde|"),
        ("9/8", "GABcdefga|"),
        ("(2+3)/8", "GABc defg ab|"),
        ("3/2", "GABcdefgabag|"),
        ("none", "GA|B|cdefg|a|"),
    ],
)
def test_without_l_the_unit_follows_from_the_meter(meter: str, body: str) -> None:
    assert bars_problem(f"X:1\nM:{meter}\nK:G\n{body}{body}{body}\n") == ""


def test_without_a_meter_nothing_can_be_said() -> None:
    assert bars_problem("X:1\nK:G\nGAB|\n") == "no meter"
    assert bars_problem("X:1\nM:six\nK:G\nGAB|\n") == "unknown meter"


def test_most_real_tunes_pass(pairs: list[tuple[str, str]]) -> None:
    passed = sum(not bars_problem(tune) for _, tune in pairs)
    assert passed / len(pairs) > 0.94


def test_a_real_tune_that_lost_a_note_within_fails(pairs: list[tuple[str, str]]) -> None:
    rng = random.Random(3)
    good = [tune for _, tune in rng.sample(pairs, 400) if not bars_problem(tune)]
    found = tried = 0
    for tune in good:
        # A plain note in a bar between plain bar lines, the bars around it within plain bar lines too.
        places = list(
            re.finditer(r"(?<=[a-gA-G ])[A-Ga-g](?=[a-gA-G][^|:\[\]]*\|[^|:\[\]\n]{6,}\|[^|:\]\[])", tune)
        )
        if places:
            place = rng.choice(places)
            found += bool(bars_problem(tune[: place.start()] + tune[place.end() :]))
            tried += 1
    assert tried > 200
    assert found / tried > 0.8


@pytest.mark.parametrize(
    ("body", "bar"),
    [
        ("|:GBd gdB|cec Bd|AFD DEF|GAB A2 D:|", "cec Bd"),
        ("GBd gdB\ncec Bd |AFD DEF|1 GAB A2 D:|2 GAB A3|]", "cec Bd"),  # the end of the line closes the first
        ('GBd gdB|1 cec BdB:|2 cec "G"[Bd]2 {c}d2 d|AFD DEF|', 'cec "G"[Bd]2 {c}d2 d'),
        ("GBd gdB|[M:4/4] cec B% a remark\nf|GBdg dBGB|", "cec B% a remark\nf"),
        ("GBd gdB|AFD DEF|", None),
    ],
)
def test_the_wrong_bar_is_found_in_the_text(body: str, bar: str | None) -> None:
    abc = f"X:1\nT:K: of the tune\nM:6/8\nL:1/8\nK:G\n{body}\n"
    place = wrong_bar(abc)
    assert (abc[slice(*place)] if place else None) == bar

import contextlib
import random
from collections.abc import Callable

import pytest

from reelmill.notation.canonical import LONGEST, NotATune, canonical
from reelmill.notation.header import header
from tests.notation.ears import EXCEPTIONS, excepted

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]

MESSY = """\
free text before
X: 0042
T: The  Mess   % a comment
T: Another name
Z: Somebody <somebody@example.org>
R:Slip Jig
N:a note that
goes on over two lines
L: 1/8
M: 9/8
Q: 3/8=120 "Slow"
I: :: ::
%%MIDI program 73
K: E Minor % one sharp
u"4"e2\t "Em"E ``B "^SEGUE"v(c<A)|\\
   T(AB)c !4!d | 1 !trill!e3 :|\\  % on we go
M:6/8
[2 +EGB+ k[E G]2 y2 A-|A !
w: some words to sing
P:B
"D.C."=20 {ag}f3 | H:|
"""


def test_every_rule_of_the_form_on_one_messy_tune() -> None:
    assert canonical(MESSY, FIELDS) == (
        "X:1\nT:The Mess\nR:slip jig\nM:9/8\nL:1/8\nQ:3/8=120\nK:Em\n"
        'ue2 "Em"E B (vc<A)| (TAB)c d |1 !trill!e3 :|[M:6/8][2 [EGB] [EG]2 A-|A\n'
        "{ag}f3 | :|\n"
    )


def test_only_the_fields_asked_for_stay_and_their_order_is_fixed() -> None:
    assert list(header(canonical(MESSY, ["K", "Z", "T", "M"]))) == ["X", "T", "Z", "M", "K"]
    assert canonical(MESSY, []).startswith("X:1\nK:Em\n")


@pytest.mark.parametrize(
    ("written", "short"),
    [
        ("D Major", "D"),
        ("EMin", "Em"),
        ("Adorian", "Ador"),
        ("G clef=treble", "G"),
        ("Dmix=c", "Dmix =c"),
        ("Bb", "Bb"),
        ("F# Minor", "F#m"),
        ("C Aeolian", "Cm"),
        ("D Ionian", "D"),
        ("Hp", "HP"),
        ("", "none"),
    ],
)
def test_keys_have_one_short_name(written: str, short: str) -> None:
    assert f"\nK:{short}\n" in canonical(f"X:1\nK:{written}\nGAB|\n", FIELDS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no K field"),
        ("X:1\nT:Only words\n", "no K field"),
        ("X:1\nK:G\n\nGAB|\n", "no notes"),
        ("X:1\nK:H\nGAB|\n", "unknown key"),
        ("X:1\nM:9/8 EDC\nK:G\nGAB|\n", "malformed meter"),
        ("X:1\nL:1/9\nK:G\nGAB|\n", "malformed unit note length"),
        ("X:1\nK:G\nGAB[EG|\n", "unbalanced chord brackets"),
        ("X:1\nK:G\nGAB}|\n", "unbalanced grace note braces"),
        ('X:1\nK:G\nGAB"segue|\n', "unclosed quotation mark"),
        ("X:1\nK:G\nGAB|\nX:2\nK:D\nd|\n", "several tunes in one"),
        ("X:1\nK:G\nGAB\0|\n", "control characters"),
        ("X:1\nK:G\n" + "GAB|" * (LONGEST // 4), "longer than a million characters"),
        ("X:1\nK:G\nOnce upon a time there was a fiddler who lost his hat\n", "prose among the music"),
        ("X:1\nm:~n=n/o/n\nK:G\n~G|\n", "macros"),
    ],
)
def test_what_is_no_tune_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(NotATune) as refused:
        canonical(text, FIELDS)
    assert refused.value.reason == reason


def test_line_ends_do_not_matter() -> None:
    assert canonical(MESSY.replace("\n", "\r\n"), FIELDS) == canonical(MESSY, FIELDS)


def test_the_real_corpora_keep_nearly_all_their_tunes(
    raw_tunes: list[str], pairs: list[tuple[str, str]]
) -> None:
    assert len(raw_tunes) - len(pairs) <= 8


def test_the_form_is_a_fixed_point_on_all_real_tunes(pairs: list[tuple[str, str]]) -> None:
    assert all(canonical(tune, FIELDS) == tune for _, tune in pairs)


def test_real_tunes_sound_the_same_in_canonical_form(
    named_tunes: list[tuple[str, int, str]], hear: Callable[[str], object]
) -> None:
    # A sample; make notes hears them all.
    others = [tune for book, place, tune in named_tunes if (book, place) not in excepted()]
    for raw in random.Random(1).sample(others, 300):
        with contextlib.suppress(NotATune):
            assert hear(raw) == hear(canonical(raw, FIELDS))


def test_the_exceptions_are_few_and_each_has_one_reason() -> None:
    listed = [(book, place) for books in EXCEPTIONS.values() for book in books for place in books[book]]
    assert len(listed) == len(excepted()) < 160

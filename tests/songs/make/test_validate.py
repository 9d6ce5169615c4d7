"""An attempt is judged by its text alone, whatever a model writes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelmill.audio.midi import read_midi
from reelmill.songs.make.validate import EMPTY_MIDI, REQUIREMENTS, validate
from reelmill.songs.store.song import to_json

GOOD = "X:1\nT:Reel\nR:reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|GABG d2BG|dcBA G4:|\n"
FORM = "|:g4 d4|g4 d4|e4 B4|G8:|\n"
KEYS = [
    "id", "abc", "attempts", "characters", "notes", "midi_seconds", "tempo_bpm",
    "headers", "midi", "bars", "form", "title", "rhythm", "meter", "key",
]  # fmt: skip


def test_a_good_tune_passes_everything() -> None:
    judgement = validate(GOOD, True, 200)
    assert [judgement.reason(require) for require in REQUIREMENTS] == ["", "", "", "", "one section"]
    assert not validate(GOOD + FORM, True, 200).reason("form")
    facts = json.loads(to_json(judgement.facts(7, 2)))
    assert list(facts) == KEYS
    assert facts == {
        "id": 7, "abc": GOOD, "attempts": 2, "characters": len(GOOD), "notes": 54, "midi_seconds": 16.0,
        "tempo_bpm": 120.0, "headers": True, "midi": True, "bars": True, "form": False,
        "title": "Reel", "rhythm": "reel", "meter": "4/4", "key": "G",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("abc", "ended", "fails"),
    [
        (GOOD, False, "headers"),
        (GOOD.replace("X:1\n", ""), True, "headers"),
        ("X:1\nT:Short\nM:4/4\nL:1/8\nK:G\nGABG d2BG|\n", True, "midi"),
        (GOOD.replace("ABcA dcBA|", "ABcA dcB|", 1), True, "bars"),
        (GOOD, True, "form"),
        (GOOD + FORM.replace(":|", "|g8:|"), True, "form"),
    ],
)
def test_a_requirement_includes_the_tiers_before_it(abc: str, ended: bool, fails: str) -> None:
    judgement = validate(abc, ended, 200)
    failed_at = REQUIREMENTS.index(fails)
    for require in REQUIREMENTS:
        assert bool(judgement.reason(require)) == (REQUIREMENTS.index(require) >= failed_at)
    assert not judgement.facts(0, 1)[fails]


def test_a_text_that_no_file_can_hold_is_never_a_song() -> None:
    judgement = validate(GOOD + "\udc80", True, 200)
    assert judgement.reason("none") == "characters that UTF-8 cannot write"


HOSTILE = [
    "",
    "\0",
    "X:1\nK:C\n" + "[" * 5000,
    "X:1\nK:C\n" + "(" * 5000 + "C" + ")" * 5000,
    "X:1\nM:1/0\nL:1/0\nK:C\nCDEF|\n",
    "X:1\nM:" + "9" * 4000 + "/4\nK:C\nCDEF|\n",
    "X:1\nL:1/" + "9" * 4000 + "\nK:C\nC" + "9" * 4000 + "|\n",
    "X:1\nQ:1/4=0\nK:C\n" + "CDEF|" * 8,
    "X:1\nP:((A9)9)9\nK:C\nP:A\n" + "CDEF|" * 8,
    "X:1\nK:C\n" + "|:C:|" * 5000,
    "X:1\nK:C\n%%MIDI program 300\n%%abc-include /etc/passwd\n" + "CDEF|" * 8,
    "X:1\nK:C\nV:1\nV:2\nV:99\n" + "Z999|" * 200,
    "X:1\r\nK:C\r\n" + "CDEF|\r" * 8,
    "X:1\nT:" + "é🎵\u202e" * 1000 + "\nK:C\n" + "CDEF|" * 8,
]


@pytest.mark.parametrize("abc", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_costs_an_attempt(abc: str) -> None:
    first, second = validate(abc, True, 50_000), validate(abc, True, 50_000)
    assert first == second
    read_midi(first.data)
    assert list(json.loads(to_json(first.facts(0, 1)))) == KEYS


def test_a_song_without_notes_has_a_midi_file_all_the_same() -> None:
    judgement = validate("", True, 10)
    assert judgement.data == EMPTY_MIDI
    assert (judgement.notes, judgement.seconds, judgement.reason("none")) == (0, 0.0, "")
    assert read_midi(EMPTY_MIDI).notes == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(
        alphabet=st.sampled_from("X:1\nKCGMLTQ/|[]():{}\"'^_=-<>0123456789 abcdefgz%\\&~!+é\0\t"), max_size=80
    )
)
def test_any_text_is_judged(text: str) -> None:
    judgement = validate("X:1\nK:C\n" + text, True, 200)
    for require in REQUIREMENTS:
        assert "\n" not in judgement.reason(require)
    to_json(judgement.facts(0, 1))

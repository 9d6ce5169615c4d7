import random
from collections.abc import Callable

import pytest

from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.transposition import transpose

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]
CHROMATIC = "CDEF GABc|^C^D=E^F _B_A=G=F|Cc' ^GgG|G,__B^^F|[M:3/4]d[K:Em]defga|\nK:Bb\nBAGFED|"


def tune(key: str, body: str = CHROMATIC) -> str:
    return f"X:1\nM:4/4\nL:1/8\nK:{key}\n{body}\n"


@pytest.mark.parametrize(
    ("key", "semitones", "expected"),
    [
        ("D", 2, "E"),
        ("Ador", -2, "Gdor"),
        ("Em", 1, "Fm"),
        ("C", 1, "Db"),
        ("C", 6, "Gb"),
        ("Am", 6, "Ebm"),
        ("Gmix", 5, "Cmix"),
        ("Bphr", 1, "Cphr"),
        ("Dmix =f", 2, "Emix =g"),
        ("G octave=-1", 2, "A octave=-1"),
        ("D exp ^f", 2, "D ^g"),
        ("HP", 2, "E"),
        ("none", 2, "D"),
        ("none", 12, "none"),
    ],
)
def test_the_new_key_is_the_simplest_of_the_same_mode(key: str, semitones: int, expected: str) -> None:
    assert transpose(tune(key, "GAB|"), semitones).splitlines()[3] == f"K:{expected}"


def test_notes_and_chords_are_spelled_in_the_new_key() -> None:
    assert transpose(tune("D", '"A7/C#"FA^c =cB,2|'), 2).splitlines()[-1] == '"B7/D#"GB^d =dC2|'.replace(
        "G", "G"
    )


@pytest.mark.parametrize(
    "key", ["C", "Em", "Gdor", "D", "Bb", "Bloc", "Flyd", "Dmix =c", "Am ^g", "D exp ^f"]
)
def test_every_note_moves_by_as_much_from_every_key(key: str, hear: Callable[[str], list]) -> None:
    before = hear(tune(key))
    for semitones in range(-12, 13):
        after = hear(transpose(tune(key), semitones))
        assert after == [(start, length, pitch + semitones) for start, length, pitch in before]


def test_every_note_of_real_tunes_moves_by_as_much(
    pairs: list[tuple[str, str]], hear: Callable[[str], list]
) -> None:
    rng = random.Random(5)
    for _, abc in rng.sample(pairs, 60):
        semitones = rng.randint(-13, 13)
        moved = transpose(abc, semitones)
        expected = [(start, length, pitch + semitones) for start, length, pitch in hear(abc)]
        assert hear(moved) == expected
        assert canonical(moved, FIELDS) == moved


def test_there_and_back_is_the_same_tune(pairs: list[tuple[str, str]]) -> None:
    rng = random.Random(6)
    for _, abc in rng.sample(pairs, 200):
        assert transpose(transpose(abc, 3), -3) == abc


@pytest.mark.parametrize(
    ("abc", "reason"),
    [
        ("X:1\nGAB|\n", "no K field"),
        (tune("H"), "unknown key"),
        (tune("C", "c'''''"), "a pitch beyond MIDI"),
        (tune("C", "[K:X]c"), "unknown key"),
    ],
)
def test_what_cannot_be_moved_is_refused(abc: str, reason: str) -> None:
    with pytest.raises(NotATune) as refused:
        transpose(abc, 7)
    assert refused.value.reason == reason

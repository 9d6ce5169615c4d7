import random

from reelmill.notation.intervals import interval_text
from reelmill.notation.transposition import transpose


def text(body: str, key: str = "C") -> str:
    return interval_text(f"X:1\nL:1/8\nK:{key}\n{body}\n")


def test_steps_are_semitones_up_and_down() -> None:
    assert text("CDEC c' C") == "bbDxX"
    assert text("CCC,, c''") == ".Xz"


def test_only_the_melody_counts() -> None:
    plain = text("GABc defg|")
    assert plain == text("G2 {ag}A>B|:c (3def [1 g3:|]")
    assert plain == text('"G"GA- A.B|[CEGc]d !trill!e\\\nf-|fg')
    assert plain != text("GABc defa|")


def test_keys_and_accidentals_are_heard() -> None:
    assert text("CEG", "Cm") == text("C_EG", "C") == "cd"
    assert text("^CcC|C") == "lLA"  # for the rest of the bar, in all octaves
    assert text("CE[K:Cm]E") == "dA"


def test_too_few_notes_give_no_text() -> None:
    assert text("C4 z4") == text("") == ""


def test_transposed_copies_of_real_tunes_agree(pairs: list[tuple[str, str]]) -> None:
    rng = random.Random(4)
    tunes = [tune for _, tune in rng.sample(pairs, 300)]
    assert all(interval_text(tune) == interval_text(transpose(tune, rng.randint(-11, 11))) for tune in tunes)
    assert len({interval_text(tune) for tune in tunes}) > 290

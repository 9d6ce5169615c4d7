"""A tune's melody as text that stays the same when the tune is transposed."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from reelmill.notation.pitches import melody


def interval_text(abc: str) -> str:
    """One character for each step of the melody of the tune in ``abc``; empty with fewer than two notes.

    ``a`` to ``z`` are 1 to 26 semitones up (or more), ``A`` to ``Z`` as many down, ``.`` a repeated note.
    Lengths, bar lines, repeats, grace notes and ornaments leave no trace, so a reel and its hornpipe may
    agree. Transposed copies have equal texts; near-copies share long runs.
    """
    return "".join([_step(second - first) for first, second in pairwise(melody(abc))])


@lru_cache(maxsize=512)
def _step(semitones: int) -> str:
    if semitones == 0:
        return "."
    return chr(ord("a" if semitones > 0 else "A") - 1 + min(abs(semitones), 26))

"""Which pitches the notes of a tune have: keys, accidentals, octaves (ABC 2.1 sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from reelmill.notation.keys import ALTERATIONS, NO_KEY, SEMITONES, Key, names_key, parse_key
from reelmill.notation.tokens import Kind, note_parts, read

MIDDLE_C = 60  # MIDI
# Read once: the members of an enumeration are looked up slowly.
_NOTE, _REST, _TIE, _BAR = Kind.NOTE, Kind.REST, Kind.TIE, Kind.BAR
_CHORD_OPEN, _CHORD_CLOSE = Kind.CHORD_OPEN, Kind.CHORD_CLOSE
_GRACE_OPEN, _GRACE_CLOSE = Kind.GRACE_OPEN, Kind.GRACE_CLOSE


def octave(letter: str, marks: str) -> int:
    """Octaves above the one of middle C: 0 for ``C``, 1 for ``c``, 2 for ``c'``, -1 for ``C,``."""
    return letter.islower() + marks.count("'") - marks.count(",")


class Accidentals:
    """The key and the accidentals of the bar so far; they hold in all octaves (ABC 2.1 section 11.3)."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self._in_bar: dict[str, int] = {}

    def new_bar(self) -> None:
        """Forget the accidentals of the bar."""
        self._in_bar.clear()

    def pitch(self, note: str) -> int:
        """The MIDI pitch of a note token's text, which may set an accidental for the rest of the bar."""
        name, alteration, natural = _written(note)
        if alteration is not None:
            self._in_bar[name] = alteration
        elif name in self._in_bar:
            alteration = self._in_bar[name]
        else:
            alteration = self.key.signature[name]
        return natural + alteration


@lru_cache(maxsize=1 << 14)
def _written(note: str) -> tuple[str, int | None, int]:
    """(the letter as a capital, the accidental in semitones if any, the MIDI pitch without accidentals)."""
    accidental, letter, marks, _ = note_parts(note)
    name = letter.upper()
    natural = MIDDLE_C + 12 * octave(letter, marks) + SEMITONES[name]
    return name, ALTERATIONS[accidental] if accidental else None, natural


def melody(abc: str) -> Iterator[int]:
    """MIDI pitches of the notes of the tune in ``abc`` as written (repeats once, voices as they come).

    Of a chord the highest note counts, grace notes do not, and tied notes are one.
    """
    tune = read(abc)
    state = Accidentals(parse_key(dict(tune.fields).get("K", "")) or NO_KEY)
    in_chord, together = False, list[int]()
    in_grace = False
    previous, tied = None, False
    for piece in [piece for line in tune.pieces for piece in line]:
        if isinstance(piece, tuple):
            name, value = piece
            if name == "K" and names_key(value):
                state.key = parse_key(value) or state.key
            continue
        kind = piece.kind
        if kind is _NOTE and not in_chord and not in_grace:
            pitch = state.pitch(piece.text)
            if not (tied and pitch == previous):
                yield pitch
            previous, tied = pitch, False
        elif kind is _NOTE:
            together.append(state.pitch(piece.text))
        elif kind is _BAR:
            state.new_bar()
        elif kind is _GRACE_OPEN:
            in_grace = True
        elif kind is _GRACE_CLOSE:
            in_grace, together = False, []
        elif kind is _CHORD_OPEN:
            in_chord, together = True, []
        elif kind is _TIE:
            tied = True
        elif kind is _REST:
            previous = None
        elif kind is _CHORD_CLOSE:
            in_chord = False
            if together and not in_grace:
                pitch = max(together)
                if not (tied and pitch == previous):
                    yield pitch
                previous, tied = pitch, False
                together = []

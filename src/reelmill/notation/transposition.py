"""A tune in another key: every note the same distance away, spelled as the new key spells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reelmill.notation.canonical import NotATune
from reelmill.notation.header import body_field
from reelmill.notation.keys import (
    ACCIDENTALS,
    ALTERATIONS,
    LETTERS,
    SEMITONES,
    Key,
    key_with,
    names_key,
    parse_key,
)
from reelmill.notation.pitches import MIDDLE_C, octave
from reelmill.notation.tokens import Kind, Reading, Token, note_parts, read

_CHORD_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
_ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def transpose(abc: str, semitones: int) -> str:
    """The tune in ``abc``, up by ``semitones`` (down if negative), with its K: and chord symbols.

    The new key is the one with the fewest sharps or flats (with flats where six stand against six), in the
    same mode; none and HP become C and D major first. Explicit accidentals stay explicit, so that a reader's
    rule of how far they hold does not matter. Comments are left out; bring the tune to canonical form before.

    Raises NotATune if there is no known key, if a note would need a triple accidental however the key is
    spelled, or if it leaves the 128 MIDI pitches.
    """
    tune = read(abc)
    if not tune.fields or tune.fields[-1][0] != "K":
        raise NotATune("no K field")
    try:
        moved = list(_moved(tune, semitones, spelling=0))
    except _TripleAccidental:
        moved = list(_moved(tune, semitones, spelling=1))
    return "\n".join(moved) + "\n"


class _TripleAccidental(NotATune):
    pass


@dataclass(frozen=True)
class _Shift:
    """From one key to another, ``steps`` of the staff up."""

    old: Key
    new: Key
    steps: int

    def pitch_name(self, letter: str, alteration: int) -> tuple[int, int]:
        """The moved note as (steps of the staff above C, alteration in semitones)."""
        step = LETTERS.index(letter) + self.steps
        relative = alteration - self.old.signature[letter]
        return step, self.new.signature[LETTERS[step % 7]] + relative


def _moved(tune: Reading, semitones: int, spelling: int) -> Iterator[str]:
    shift = None
    for name, value in tune.fields:
        if name == "K":
            shift = _shift(value, semitones, spelling)
            value = shift.new.text
        yield f"{name}:{value}"
    for line, tokens in zip(tune.lines, tune.tokens, strict=True):
        found = body_field(line)
        if found and found[0] == "K" and names_key(found[1]):
            shift = _shift(found[1], semitones, spelling)
            yield f"K:{shift.new.text}"
        elif found or shift is None:
            yield line
        else:
            moved = []
            for token in tokens:
                if token.kind is Kind.INLINE and token.text[1] == "K" and names_key(token.text[3:-1]):
                    shift = _shift(token.text[3:-1], semitones, spelling)
                    moved.append(f"[K:{shift.new.text}]")
                else:
                    moved.append(_moved_token(token, shift))
            yield "".join(moved)


def _shift(value: str, semitones: int, spelling: int) -> _Shift:
    old = parse_key(value)
    if old is None:
        raise NotATune("unknown key")
    if semitones % 12 == 0:
        return _Shift(old, old, 7 * (semitones // 12))
    plain = _plain(old)
    spellings = [fifths for fifths in range(-7, 8) if (fifths - plain.fifths - 7 * semitones) % 12 == 0]
    spellings.sort(key=lambda fifths: (abs(fifths), fifths))
    new = key_with(spellings[min(spelling, len(spellings) - 1)], plain.mode)
    shift = _Shift(plain, new, _steps(plain, new, semitones))
    accidentals = tuple(_moved_accidental(accidental, shift) for accidental in old.accidentals)
    new = replace(new, accidentals=accidentals, sounding=old.sounding)
    return _Shift(old, new, shift.steps)


def _plain(key: Key) -> Key:
    """The key with the same signature, accidentals of its own apart, that has a tonic and a mode."""
    if key.tonic == "HP":
        return Key("D")
    return Key("C") if key.explicit or key.tonic == "none" else Key(key.tonic, key.mode)


def _steps(old: Key, new: Key, semitones: int) -> int:
    octaves = (_tonic_pitch(old) + semitones - _tonic_pitch(new)) // 12
    return LETTERS.index(new.tonic[0]) + 7 * octaves - LETTERS.index(old.tonic[0])


def _tonic_pitch(key: Key) -> int:
    return SEMITONES[key.tonic[0]] + key.tonic.count("#") - key.tonic.count("b")


def _moved_accidental(accidental: str, shift: _Shift) -> str:
    step, alteration = shift.pitch_name(accidental[-1].upper(), ALTERATIONS[accidental[:-1]])
    return _accidental(alteration) + LETTERS[step % 7].lower()


def _moved_token(token: Token, shift: _Shift) -> str:
    if token.kind is Kind.NOTE:
        return _moved_note(token.text, shift)
    if token.kind is Kind.QUOTED and token.text[1] in LETTERS:
        return '"' + "/".join(_moved_root(root, shift) for root in token.text[1:-1].split("/")) + '"'
    return token.text


def _moved_note(text: str, shift: _Shift) -> str:
    accidental, letter, marks, length = note_parts(text)
    name = letter.upper()
    alteration = ALTERATIONS[accidental] if accidental else shift.old.signature[name]
    step, moved = shift.pitch_name(name, alteration)
    octaves = octave(letter, marks) + step // 7
    new = LETTERS[step % 7]
    if not 0 <= MIDDLE_C + 12 * octaves + SEMITONES[new] + moved <= 127:
        raise NotATune("a pitch beyond MIDI")
    new = new + "," * -octaves if octaves < 1 else new.lower() + "'" * (octaves - 1)
    return (_accidental(moved) if accidental else "") + new + length


def _moved_root(text: str, shift: _Shift) -> str:
    if not text or text[0] not in LETTERS:
        return text
    sign = text[1:2] if text[1:2] in _CHORD_ACCIDENTALS else ""
    step, alteration = shift.pitch_name(text[0], _CHORD_ACCIDENTALS[sign])
    root = LETTERS[step % 7]
    plain = abs(alteration) < 2
    name = root + ("", "#", "b")[alteration] if plain else _ROOTS[(SEMITONES[root] + alteration) % 12]
    return name + text[1 + len(sign) :]


def _accidental(alteration: int) -> str:
    if alteration not in ACCIDENTALS:
        raise _TripleAccidental("a triple accidental")
    return ACCIDENTALS[alteration]

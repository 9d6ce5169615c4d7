"""Clefs, octaves and transpositions of K: and V: fields, written into the notes (ABC 2.1 section 4.6).

An octave is moved into the octave marks of the notes, because players differ in when a field's takes hold.
What is left of a transposition stays in the field: ``transpose=-14`` is an octave lower and ``transpose=-2``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reelmill.notation.keys import sounding_words
from reelmill.notation.pitches import octave
from reelmill.notation.tokens import Kind, Token, note_parts

_MOST_MARKS = 6  # what a note token takes


class BeyondMidi(ValueError):
    """A note that has no MIDI pitch where its octave puts it."""


@dataclass
class _Shift:
    """How much higher notes sound than they are written: whole octaves, and semitones of a transposition."""

    octave: int | None = None  # None: nothing is said of it
    transpose: int | None = None

    def heed(self, words: Iterable[str]) -> None:
        for name, _, number in (word.partition("=") for word in words):
            if name == "octave":
                self.octave = int(number)
            elif name == "transpose":
                self.transpose = int(number)

    def over(self, default: _Shift) -> tuple[int, int]:
        """(octaves to move notes by, semitones left), with ``default`` where this says nothing."""
        octaves = self.octave if self.octave is not None else default.octave or 0
        semitones = self.transpose if self.transpose is not None else default.transpose or 0
        whole = int(semitones / 12)
        return octaves + whole, semitones - 12 * whole


def written_octaves(
    fields: Sequence[tuple[str, str]], key: str, body: list[list[Token]]
) -> tuple[str, list[list[Token]]]:
    """The header's ``key`` and the ``body`` with octaves in the notes; what else is transposed stays.

    ``key`` and the K: and V: fields of the body are canonical but for the words of ``sounding_words``; the
    header ``fields`` define voices. Raises BeyondMidi.
    """
    voices: dict[str, _Shift] = {}
    for name, value in fields:
        if name == "V" and value.split():
            words = value.split()
            voices.setdefault(words[0], _Shift()).heed(sounding_words(words[1:]))
    kind = Kind.INLINE  # looked up once, slowly
    inline = [token.text for line in body for token in line if token.kind is kind]
    if all(voice == _Shift() for voice in voices.values()) and not any(
        "=" in said for said in (key, *inline)
    ):
        return key, body
    default = _Shift()
    plain_key, words = _divided(key)
    default.heed(words)
    moves = _Moves(voices, default, plain_key)
    named = any(said.lstrip("[")[0] == "V" for said in inline)
    default_semitones = default.over(_Shift())[1] if named else moves.shift[1]
    moves.announced = dict.fromkeys(["", *voices], default_semitones)
    moved = [[new for token in line for new in moves.take(token)] for line in body]
    return _with_transposition(plain_key, default_semitones), moved


class _Moves:
    """Follows the voices and keys of a body and moves its notes."""

    def __init__(self, voices: dict[str, _Shift], default: _Shift, key: str) -> None:
        self._voices = voices
        self._default = default
        self._voice = next(iter(voices), "")
        self._key = key
        self.announced: dict[str, int] = {}  # the transposition that a player knows of, of each voice

    @property
    def shift(self) -> tuple[int, int]:
        """(octaves, semitones left) of the voice at hand."""
        return self._voices.get(self._voice, _Shift()).over(self._default)

    def take(self, token: Token) -> list[Token]:
        if token.kind is Kind.NOTE:
            octaves = self.shift[0]
            return [Token(Kind.NOTE, _moved(token.text, octaves)) if octaves else token]
        if token.kind is not Kind.INLINE:
            return [token]
        brackets = token.text[0] == "["
        field = token.text[1:-1] if brackets else token.text
        name, value = field[0], field[2:]
        if name not in "KV":
            return [token]
        value = self._voice_value(value) if name == "V" else self._key_value(value)
        return [Token(Kind.INLINE, f"[{name}:{value}]" if brackets else f"{name}:{value}")] if value else []

    def _voice_value(self, value: str) -> str:
        self._voice, *words = value.split()
        self._voices.setdefault(self._voice, _Shift()).heed(words)
        return self._voice + self._announcement()

    def _key_value(self, value: str) -> str:
        key, words = _divided(value)
        self._voices.setdefault(self._voice, _Shift()).heed(words)
        said = self._announcement()
        self._key = key or self._key
        return self._key + said if key or said else ""

    def _announcement(self) -> str:
        """What a player must be told of the voice's transposition, if it does not know it."""
        left = self.shift[1]
        if left == self.announced.get(self._voice, self.announced[""]):
            return ""
        self.announced[self._voice] = left
        return f" transpose={left}"


def _divided(value: str) -> tuple[str, list[str]]:
    """(what is canonical of a K: value, its words that move the notes)."""
    words = value.split()
    moving = [word for word in words if word.startswith(("octave=", "transpose="))]
    return " ".join(word for word in words if word not in moving), moving


def _with_transposition(key: str, semitones: int) -> str:
    return f"{key} transpose={semitones}" if semitones else key


def _moved(note: str, octaves: int) -> str:
    accidental, letter, marks, length = note_parts(note)
    above = octave(letter, marks) + octaves
    if not -_MOST_MARKS <= above <= _MOST_MARKS:
        raise BeyondMidi("a pitch beyond MIDI")
    name = letter.upper() + "," * -above if above < 1 else letter.lower() + "'" * (above - 1)
    return accidental + name + length

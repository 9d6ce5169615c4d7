"""What each character of canonical ABC means where it stands: a table of modes, characters and actions.

The grammar is that of ``notation.tokens``, cut into single characters. A mode says what was read last (a
note, a slash of its length, a bar line …), an action what becomes of the counters (``kernels.counting``).
Anything a model may write has some meaning here, so reading never fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto
from functools import cache

import numpy as np
from numpy.typing import NDArray

from reelmill.corpus.vocabulary import END, MARKS, START, Vocabulary
from reelmill.metrical.kernels.counting import Action

START_CODE, END_CODE, OTHER_CODE = 0, 1, 2  # no character of a tune has these code points
CODES = 128


class Mode(IntEnum):
    """What was read last. Those of the header come first."""

    HEADER = 0  # a line of it begins
    HEADER_TEXT = auto()
    KEY = auto()
    HEADER_METER = auto()
    HEADER_METER_OVER = auto()  # behind the stroke
    HEADER_UNIT = auto()
    HEADER_UNIT_OVER = auto()
    LINE = auto()  # a line of the body begins
    LINE_TEXT = auto()
    LINE_METER = auto()
    LINE_METER_OVER = auto()
    LINE_UNIT = auto()
    LINE_UNIT_OVER = auto()
    INLINE_TEXT = auto()
    INLINE_METER = auto()
    INLINE_METER_OVER = auto()
    INLINE_UNIT = auto()
    INLINE_UNIT_OVER = auto()
    FIELD_OR_SIGN = auto()  # K, V or Q at the beginning of a line
    METER_OR_SIGN = auto()
    UNIT_OR_SIGN = auto()
    MUSIC = auto()
    NOTE = auto()
    NOTE_OVER = auto()
    OPEN = auto()  # [
    CHORD = auto()  # before its first note
    CHORD_NOTE = auto()
    CHORD_NOTE_OVER = auto()
    CHORD_REST = auto()
    GRACE = auto()
    QUOTED = auto()
    DECORATION = auto()
    SLUR = auto()  # (
    TUPLET = auto()  # (3
    TUPLET_TIME = auto()  # (3:
    TUPLET_COUNT = auto()  # (3:2:
    BAR = auto()  # |
    EDGE = auto()  # any other bar line
    ENDING = auto()


FIRST_OF_BODY = Mode.LINE

_NOTES, _RESTS, _DIGITS = "ABCDEFGabcdefg", "zx", "0123456789"
_Sign = tuple[Mode, Action]


def codes(vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """The column of ``table`` for each index of a vocabulary."""
    points = (ord(character) for character in vocabulary.characters)
    found = [START_CODE] * len(MARKS) + [point if 2 < point < CODES else OTHER_CODE for point in points]
    found[START], found[END] = START_CODE, END_CODE
    return np.array(found, dtype=np.uint8)


@cache
def table() -> NDArray[np.int64]:
    """What follows: int64 [modes, codes, 2], the next mode and the action."""
    found = np.zeros((len(Mode), CODES, 2), dtype=np.int64)
    for mode in Mode:
        found[mode, :] = _sign(mode, "")
        for code in range(OTHER_CODE + 1, CODES):
            found[mode, code] = _sign(mode, chr(code))
        found[mode, START_CODE] = Mode.HEADER, Action.BEGIN
        found[mode, END_CODE] = mode, Action.NONE
    return found


def _sign(mode: Mode, read: str) -> _Sign:
    """What ``read``, a character, or "" for one that ABC does not know, is in ``mode``."""
    if mode < FIRST_OF_BODY:
        return _in_header(mode, read)
    if read == "\n":
        return Mode.LINE, _ENDS.get(mode, Action.LINE)
    if mode in _FIELDS:
        closed = read == "]" and mode.name.startswith("INLINE")
        return (Mode.MUSIC, _ENDS[mode]) if closed else _in_value(mode, read)
    if mode in _QUOTES:
        return (Mode.MUSIC if read == _QUOTES[mode] else mode), Action.NONE
    return _BODY.get((mode, read)) or _in_music(mode, read)


def _in_header(mode: Mode, read: str) -> _Sign:
    if read == "\n":
        return (Mode.LINE if mode is Mode.KEY else Mode.HEADER), _ENDS.get(mode, Action.NONE)
    if mode is Mode.HEADER:
        kinds = {"M": Mode.HEADER_METER, "L": Mode.HEADER_UNIT, "K": Mode.KEY}
        return kinds.get(read, Mode.HEADER_TEXT), Action.VALUE
    return _in_value(mode, read)


def _in_value(mode: Mode, read: str) -> _Sign:
    """A character of a field's value: of a meter or a unit note length, or of what does not matter."""
    if mode in _OVER:
        over = _OVER[mode]
        if read in _digits(read):
            return mode, Action.NUMERATOR
        if read in ("/", "+"):
            return (over if read == "/" else mode), Action.PLUS
        return mode, Action.COMMON_TIME if read == "C" else Action.NONE
    return mode, Action.DENOMINATOR if mode in _OVER.values() and read in _digits(read) else Action.NONE


def _in_music(mode: Mode, read: str) -> _Sign:
    """A character that means the same whatever was read before it."""
    in_chord = mode in (Mode.CHORD, Mode.CHORD_NOTE, Mode.CHORD_NOTE_OVER, Mode.CHORD_REST)
    if in_chord and read not in ("|", ":"):
        return (mode if mode is Mode.CHORD else Mode.CHORD_REST), Action.NONE
    if mode is Mode.OPEN and read not in ("|", ":"):
        return _BODY.get((Mode.CHORD, read), (Mode.CHORD, Action.NONE))
    if mode is Mode.LINE and read in _LINE_FIELDS:
        return _LINE_FIELDS[read], Action.NONE
    return _MUSIC.get(read, (Mode.MUSIC, Action.NONE))


def _digits(read: str) -> Iterable[str]:
    return _DIGITS if read else ()


_ENDS = {
    **{mode: Action.METER for mode in Mode if "METER" in mode.name},
    **{mode: Action.UNIT for mode in Mode if "UNIT" in mode.name},
    Mode.METER_OR_SIGN: Action.LINE,
    Mode.UNIT_OR_SIGN: Action.LINE,
    Mode.KEY: Action.BODY,
    Mode.LINE_TEXT: Action.NONE,
    Mode.INLINE_TEXT: Action.NONE,
}
"""What the end of a line, or of an inline field, does."""

_OVER = {
    mode: Mode[f"{mode.name}_OVER"]
    for mode in Mode
    if f"{mode.name}_OVER" in Mode.__members__ and mode < Mode.MUSIC
}
_FIELDS = [mode for mode in Mode if mode.name.startswith(("LINE_", "INLINE_"))]
_QUOTES = {Mode.GRACE: "}", Mode.QUOTED: '"', Mode.DECORATION: "!"}
_LINE_FIELDS = {
    "K": Mode.FIELD_OR_SIGN, "V": Mode.FIELD_OR_SIGN, "Q": Mode.FIELD_OR_SIGN,
    "M": Mode.METER_OR_SIGN, "L": Mode.UNIT_OR_SIGN,
}  # fmt: skip
_MUSIC: dict[str, _Sign] = {
    **dict.fromkeys(_NOTES + _RESTS, (Mode.NOTE, Action.NOTE)),
    "Z": (Mode.MUSIC, Action.WHOLE_BAR),
    "X": (Mode.MUSIC, Action.WHOLE_BAR),
    ">": (Mode.MUSIC, Action.BROKEN_UP),
    "<": (Mode.MUSIC, Action.BROKEN_DOWN),
    "|": (Mode.BAR, Action.BAR),
    ":": (Mode.EDGE, Action.BAR_AND_EDGE),
    "&": (Mode.MUSIC, Action.OVERLAY),
    "(": (Mode.SLUR, Action.NONE),
    "[": (Mode.OPEN, Action.NONE),
    "{": (Mode.GRACE, Action.NONE),
    '"': (Mode.QUOTED, Action.NONE),
    "!": (Mode.DECORATION, Action.NONE),
}
_BODY: dict[tuple[Mode, str], _Sign] = {
    (Mode.FIELD_OR_SIGN, ":"): (Mode.LINE_TEXT, Action.NONE),
    (Mode.METER_OR_SIGN, ":"): (Mode.LINE_METER, Action.VALUE),
    (Mode.UNIT_OR_SIGN, ":"): (Mode.LINE_UNIT, Action.VALUE),
    **{(Mode.OPEN, name): (Mode.INLINE_TEXT, Action.NONE) for name in "KVQ"},
    (Mode.OPEN, "M"): (Mode.INLINE_METER, Action.VALUE),
    (Mode.OPEN, "L"): (Mode.INLINE_UNIT, Action.VALUE),
    (Mode.OPEN, "|"): (Mode.EDGE, Action.BAR_AND_EDGE),
    **{(mode, "/"): (Mode[mode.name.split("_OVER")[0] + "_OVER"], Action.NOTE_SLASH)
       for mode in (Mode.NOTE, Mode.NOTE_OVER, Mode.CHORD_NOTE, Mode.CHORD_NOTE_OVER)},
    **{(mode, sign): (mode, Action.NONE) for mode in (Mode.NOTE, Mode.CHORD_NOTE) for sign in "',"},
    **{(Mode.CHORD, note): (Mode.CHORD_NOTE, Action.NOTE) for note in _NOTES + _RESTS},
    (Mode.CHORD, "]"): (Mode.MUSIC, Action.NONE),
    **{(mode, "]"): (Mode.NOTE, Action.CHORD)
       for mode in (Mode.CHORD_NOTE, Mode.CHORD_NOTE_OVER, Mode.CHORD_REST)},
    (Mode.TUPLET, ":"): (Mode.TUPLET_TIME, Action.NONE),
    (Mode.TUPLET_TIME, ":"): (Mode.TUPLET_COUNT, Action.NONE),
    **{(Mode.BAR, sign): (Mode.EDGE, Action.EDGE) for sign in "|:]"},
    **{(Mode.EDGE, sign): (Mode.EDGE, Action.NONE) for sign in "|:]"},
    **{(Mode.ENDING, sign): (Mode.ENDING, Action.NONE) for sign in _DIGITS + ",-"},
}  # fmt: skip
for _digit in _DIGITS:
    for _mode in (Mode.NOTE, Mode.CHORD_NOTE):
        _BODY[_mode, _digit] = _mode, Action.NOTE_NUMERATOR
    for _mode in (Mode.NOTE_OVER, Mode.CHORD_NOTE_OVER):
        _BODY[_mode, _digit] = _mode, Action.NOTE_DENOMINATOR
    for _mode in (Mode.BAR, Mode.EDGE, Mode.OPEN):
        _BODY[_mode, _digit] = Mode.ENDING, Action.ENDING
    if _digit > "1":
        _BODY[Mode.SLUR, _digit] = Mode.TUPLET, Action.TUPLET
    _BODY[Mode.TUPLET_TIME, _digit] = Mode.TUPLET_TIME, Action.TUPLET_TIME
    _BODY[Mode.TUPLET_COUNT, _digit] = Mode.TUPLET_COUNT, Action.TUPLET_COUNT

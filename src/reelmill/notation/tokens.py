"""A line of ABC music as tokens, ABC 2.1 section 4; a tune as lines of them.

``tokenize`` reads any text in linear time and loses nothing: the tokens' texts joined are the line. What has
no meaning where it stands becomes a ``STRAY`` token of one character. ``read`` gives a whole tune so, and who
asks for one tune after another, as all checks of a tune do, has it read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property, lru_cache

from reelmill.notation.header import body_field, split_tune
from reelmill.notation.symbols import PLUS_NAMES


class Kind(Enum):
    """What a token is. The values are the names of the groups that match it."""

    INLINE = "inline"  # [M:6/8]
    QUOTED = "quoted"  # "Am", "^slowly"
    DECORATION = "decoration"  # !trill!, +trill+
    BAR = "bar"  # |, |:, :|, ::, |], [|
    ENDING = "ending"  # [1
    NUMBER = "number"  # the 1 of |1
    TUPLET = "tuplet"  # (3, (3:2:3, (10:8:10
    NOTE = "note"  # ^c'3/2
    REST = "rest"  # z2, x, Z4
    SPACER = "spacer"  # y
    OLD_CHORD = "old_chord"  # +CEG+, ABC 1.6
    UNKNOWN = "unknown"  # +salve+, between plus signs and no notes
    BROKEN = "broken"  # >, <<
    TIE = "tie"  # -
    SLUR_OPEN = "slur_open"
    SLUR_CLOSE = "slur_close"
    CHORD_OPEN = "chord_open"
    CHORD_CLOSE = "chord_close"
    GRACE_OPEN = "grace_open"
    GRACE_CLOSE = "grace_close"
    OVERLAY = "overlay"  # &
    SIGN = "sign"  # one-letter decorations: ~ . H L M O P S T u v
    SPACE = "space"
    STRAY = "stray"


_LENGTH = r"\d{0,4}(?:/{1,6}\d{0,3})?"  # short denominators keep sums of lengths short
_PITCH = r"(?:\^\^|__|\^|_|=)?[A-Ga-g][,']{0,6}"
# What people write between exclamation marks with spaces.
_JUMP = r"(?:[Dd]\.?\ ?[CcSs]\.?|[Dd]a\ [Cc]apo|[Dd]al\ [Ss]egno|(?:[Tt]o|[Aa]l)\ [Cc]oda|[Ff]ine)"
_TOKEN = re.compile(
    rf"""
      (?P<space>[\s`]+)
    | (?P<note>{_PITCH}{_LENGTH})
    | (?P<bar>(?:\[(?=\|)|\.(?=\|))?(?:\||::)[|:]*\]?|:\|[|:]*\]?|:+\])
    | (?P<tuplet>\((?:[2-9]|[1-9]\d?(?=:))(?::\d{{0,2}}(?::\d{{0,2}})?)?)
    | (?P<slur_open>\.?\((?![2-9]))
    | (?P<slur_close>\))
    | (?P<rest>[zxZX]{_LENGTH})
    | (?P<broken>>{{1,3}}|<{{1,3}})
    | (?P<quoted>"[^"]*")
    | (?P<inline>\[[A-Za-z]:(?:[^\]]{{0,100}}|[^\[\]]*)\])
    | (?P<ending>\[\d{{1,2}}(?:[,-]\d{{1,2}}){{0,8}})
    | (?P<chord_open>\[)
    | (?P<chord_close>\]{_LENGTH})
    | (?P<grace_open>\{{/?)
    | (?P<grace_close>\}})
    | (?P<decoration>![^!\s|"]{{1,40}}!|!{_JUMP}[^!|"]{{0,30}}!|\+{PLUS_NAMES}\+)
    | (?P<old_chord>\+(?:[A-G]|[a-g]|[\d/,'^_=]){{2,30}}\+{_LENGTH})
    | (?P<unknown>\+[A-Za-z.<>()-]{{2,30}}\+)
    | (?P<tie>\.?-)
    | (?P<overlay>&)
    | (?P<number>\d{{1,2}}(?:[,-]\d{{1,2}}){{0,8}})
    | (?P<spacer>y\d{{0,4}})
    | (?P<sign>[.~HLMOPSTuv])
    | (?P<stray>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NOTE = re.compile(r"(\^\^|__|\^|_|=|)([A-Ga-g])([,']*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a line of music. One token may stand in many places."""

    kind: Kind
    text: str


Piece = Token | tuple[str, str]
"""A token of music, or (name, value) of a field, inline or not."""

_MEAN_OTHERWISE = (Kind.INLINE, Kind.NUMBER)
_LONGEST_KEPT = 1000  # characters of a line, whose tokens are kept for others like them
_KINDS: dict[str | None, Kind] = {kind.value: kind for kind in Kind}
_TEXTS = re.compile(re.sub(r"\(\?P<\w+>", "(?:", _TOKEN.pattern), _TOKEN.flags)


def tokenize(line: str) -> list[Token]:
    """The tokens of a line of music (no newlines needed; they would count as space)."""
    return list(map(_token if len(line) <= _LONGEST_KEPT else _new_token, _TEXTS.findall(line)))


def _new_token(text: str) -> Token:
    match = _TOKEN.fullmatch(text)  # its kind follows from the text alone: no two groups match the same
    assert match is not None
    return Token(_KINDS[match.lastgroup], text)


_token = lru_cache(maxsize=1 << 14)(_new_token)


@dataclass(frozen=True)
class Reading:
    """A tune that has been read: its header ``fields`` in order, the ``lines`` of its body, and their tokens,
    none for a line that is a field.
    """

    fields: list[tuple[str, str]]
    lines: list[str]
    tokens: list[list[Token]]

    @cached_property
    def pieces(self) -> list[list[Piece]]:
        """What each line of the body means, without numbers that mean nothing where they stand."""
        return [
            [field] if (field := body_field(line)) else _meanings(tokens)
            for line, tokens in zip(self.lines, self.tokens, strict=True)
        ]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Where each of ``pieces`` stands: its line, where it begins in it and where it ends."""
        for number, (line, tokens) in enumerate(zip(self.lines, self.tokens, strict=True)):
            if body_field(line):
                yield number, 0, len(line)
            else:
                yield from ((number, begin, end) for _, begin, end in _pieces(tokens))


@lru_cache(maxsize=4)
def read(abc: str) -> Reading:
    """The one tune in ``abc``; what is read is kept for the next who asks, so change nothing in it."""
    fields, lines = split_tune(abc)
    return Reading(fields, lines, [[] if body_field(line) else tokenize(line) for line in lines])


def _meanings(tokens: list[Token]) -> list[Piece]:
    plain = not [token for token in tokens if token.kind in _MEAN_OTHERWISE]
    return [*tokens] if plain else [piece for piece, _, _ in _pieces(tokens)]


def _pieces(tokens: list[Token]) -> Iterator[tuple[Piece, int, int]]:
    """The pieces of a line of music, and where each begins and ends."""
    inline, number, bar = Kind.INLINE, Kind.NUMBER, Kind.BAR
    last, end = inline, 0
    for token in tokens:
        kind, text = token.kind, token.text
        begin, end = end, end + len(text)
        if kind is inline:
            yield (text[1], text[3:-1].strip()), begin, end
        elif kind is not number or last is bar:
            yield token, begin, end
        last = kind


@lru_cache(maxsize=1 << 14)
def note_parts(text: str) -> tuple[str, str, str, str]:
    """(accidental, letter, octave marks, length) of a note token's text."""
    match = _NOTE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a note")
    return match[1], match[2], match[3], match[4]


@lru_cache(maxsize=1 << 14)
def length_factor(text: str) -> Fraction | int:
    """What the length part of a token multiplies the unit note length by: ``3/2``, ``/`` = 1/2, empty = 1."""
    before, slash, after = text.partition("/")
    numerator, divisor = int(before or 0) or 1, after.lstrip("/")
    slashes = len(slash) + len(after) - len(divisor)
    denominator = int(divisor or 0) or 2**slashes
    # Whole numbers as int: they add up many times faster than fractions do.
    return numerator // denominator if numerator % denominator == 0 else Fraction(numerator, denominator)

"""A line of ABC music as tokens, ABC 2.1 section 4.

``tokenize`` reads any text in linear time and loses nothing: the tokens' texts joined are the line. What has
no meaning where it stands becomes a ``STRAY`` token of one character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import lru_cache

from reelmill.notation.header import body_field
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


@dataclass(slots=True)
class Token:
    """A piece of a line of music."""

    kind: Kind
    text: str


_LONGEST_KEPT = 1000  # characters of a line
_KINDS: dict[str | None, Kind] = {kind.value: kind for kind in Kind}


def tokenize(line: str) -> list[Token]:
    """The tokens of a line of music (no newlines needed; they would count as space)."""
    return [Token(_KINDS[match.lastgroup], match[0]) for match in _TOKEN.finditer(line)]


def read_tokens(line: str) -> Sequence[Token]:
    """The tokens of a line, for those who change none: who reads one line after another reads it once."""
    return _tokens(line) if len(line) <= _LONGEST_KEPT else tokenize(line)


@lru_cache(maxsize=256)
def _tokens(line: str) -> tuple[Token, ...]:
    return tuple(tokenize(line))


def pieces(lines: Iterable[str]) -> Iterator[Token | tuple[str, str]]:
    """Tokens of music, and (name, value) of fields, inline or not, in the order of the body ``lines``."""
    inline, number, bar = Kind.INLINE, Kind.NUMBER, Kind.BAR
    for line in lines:
        found = body_field(line)
        if found:
            yield found
            continue
        last = inline
        for token in read_tokens(line):
            kind = token.kind
            if kind is inline:
                yield token.text[1], token.text[3:-1].strip()
            elif kind is not number or last is bar:
                yield token
            last = kind


def places(lines: Iterable[str]) -> Iterator[tuple[int, int, int]]:
    """Where each of ``pieces(lines)`` stands: its line, where it begins in it and where it ends."""
    for number, line in enumerate(lines):
        if body_field(line):
            yield number, 0, len(line)
            continue
        last, end = Kind.INLINE, 0
        for token in read_tokens(line):
            begin, end = end, end + len(token.text)
            if token.kind is not Kind.NUMBER or last is Kind.BAR:
                yield number, begin, end
            last = token.kind


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

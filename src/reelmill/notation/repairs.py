"""What players misread in repeats and ties, written so that they play what is meant.

All functions take and return the lines of a body as lists of tokens.
"""

from __future__ import annotations

import re
from itertools import count, pairwise

from reelmill.notation.tokens import Kind, Token, note_parts

Lines = list[list[Token]]
_OPENS = re.compile(r"\|+:{2,8}")
_CLOSES = re.compile(r":{2,8}\|+\]?")
_SIGNS = (Kind.SIGN, Kind.DECORATION)
_REPEATS_AND_ENDINGS = (Kind.BAR, Kind.ENDING, Kind.NUMBER)


def without_false_ties(lines: Lines) -> Lines:
    """``lines`` without ties from one note to another at a different place of the staff, or to a rest,
    and without those that follow grace notes.

    In old books a hyphen often stands for a slur. Ties beside chords stay: they may tie one of the notes.
    """
    if not _has(lines, Kind.TIE):
        return lines
    false: set[int] = set()  # places among all tokens
    waiting: list[int] = []  # those of ties since the last sound
    last = ""  # place on the staff of the last note, empty if it was none
    bracket, after_grace = "", False
    for at, token in enumerate(_in_order(lines)):
        kind = token.kind
        if kind is Kind.GRACE_CLOSE:
            bracket, after_grace = "", True
            continue
        if bracket == "{":
            continue
        if kind is Kind.TIE and after_grace:
            false.add(at)
            continue
        after_grace = False
        if kind is Kind.CHORD_OPEN or kind is Kind.GRACE_OPEN:
            bracket = token.text[0]
        elif kind is Kind.TIE:
            waiting.append(at)
        elif kind is Kind.CHORD_CLOSE or kind is Kind.OVERLAY or _changes_voice(token):
            last, waiting, bracket = "", [], ""
        elif (kind is Kind.NOTE or kind is Kind.REST) and not bracket:
            staff = "".join(note_parts(token.text)[1:3]) if kind is Kind.NOTE else "rest"
            if last and staff != last:
                false.update(waiting)
            last, waiting = staff, []
    place = count()
    return [[token for token in line if next(place) not in false] for line in lines]


def with_plain_repeats(lines: Lines) -> Lines:
    """``lines`` without signs of more than one repeat, such as ``|::`` and ``::|``.

    A section between two such signs is played once more for each colon behind the first (ABC 2.1 section
    4.8): it is written once more for each. Where only one of the two is there, or endings or fields stand
    between them, players repeat once, and so it stays.
    """
    lines = [_with_joined_bar_lines(line) for line in lines]
    bar = Kind.BAR
    if not any("::" in text for text in [token.text for token in _in_order(lines) if token.kind is bar]):
        return lines
    plain: Lines = []
    section: list[Token] | None = None  # since the sign that opened it
    times = 0
    for line in lines:
        written: list[Token] = []
        for token in line:
            opens, closes = _repeats(token, _OPENS), _repeats(token, _CLOSES)
            if opens:
                section, times = [], opens
                written.append(Token(Kind.BAR, "|:"))
            elif closes:
                written.append(Token(Kind.BAR, ":|"))
                for _ in range(min(times, closes) - 1 if section else 0):
                    written += [*(section or ()), Token(Kind.BAR, "|")]
                section = None
            else:
                written.append(token)
                if _ends_section(token):
                    section = None
                elif section is not None:
                    section.append(token)
        if section:
            section.append(Token(Kind.SPACE, " "))
        plain.append(written)
    return plain


def _with_joined_bar_lines(line: list[Token]) -> list[Token]:
    """``line`` with bar lines as one between which nothing is left."""
    joined: list[Token] = []
    bar = Kind.BAR
    bars = [place for place, token in enumerate(line) if token.kind is bar]
    if all(second - first > 1 for first, second in pairwise(bars)):
        return line
    for token in line:
        if token.kind is bar and joined and joined[-1].kind is bar:
            token = Token(bar, joined.pop().text + token.text)
        joined.append(token)
    return joined


def _repeats(token: Token, sign: re.Pattern[str]) -> int:
    return token.text.count(":") if token.kind is Kind.BAR and sign.fullmatch(token.text) else 0


def _ends_section(token: Token) -> bool:
    if token.kind is Kind.BAR:
        return ":" in token.text
    return token.kind in (Kind.ENDING, Kind.NUMBER, Kind.INLINE)


def with_opened_repeats(lines: Lines) -> Lines:
    """``lines`` with ``|:`` where a part with a first ending begins after ``:|`` and none opens its repeat.

    Players that do not open it for themselves lose the repeat.
    """
    if not _has(lines, Kind.ENDING, Kind.NUMBER):
        return lines
    unopened: set[int] = set()  # the places among all tokens of the first ones of such parts
    closed = False  # whether the last repeat sign was a ``:|``
    start: int | None = None  # the place of the first token of the part after it
    for at, token in enumerate(_in_order(lines)):
        if token.kind is Kind.BAR and ":" in token.text:
            closed = token.text[0] == ":" and token.text[-1] != ":"
            start = None
        elif token.kind is Kind.ENDING or token.kind is Kind.NUMBER:
            if start is not None and token.text.lstrip("[")[0] == "1":
                unopened.add(start)
            closed, start = False, None
        elif _changes_voice(token):
            closed, start = False, None
        elif closed and start is None and token.kind not in (Kind.BAR, Kind.SPACE, Kind.INLINE):
            start = at
    opening, place = Token(Kind.BAR, "|:"), count()
    return [
        [new for old in line for new in ([opening, old] if next(place) in unopened else [old])]
        for line in lines
    ]


def with_closed_repeats(lines: Lines) -> Lines:
    """``lines`` without ``|:`` at the end of a tune that nothing closes: players say that its end is missing.

    They play that part once, so a ``::`` there is a ``:|``. A ``|:|`` that ends a tune closes what is open;
    where nothing is, it is a plain bar line. Where there are voices, nothing changes.
    """
    plain: dict[int, Token] = {}  # by places among all tokens
    tokens = _in_order(lines)
    marks = [(at, token) for at, token in enumerate(tokens) if token.kind in _REPEATS_AND_ENDINGS]
    for at, token in reversed(marks):
        if token.kind is Kind.ENDING or token.kind is Kind.NUMBER:
            break
        if token.kind is Kind.BAR and ":" in token.text:
            opens, closes = token.text[-1] == ":", token.text[0] == ":"
            if opens:
                plain[at] = Token(Kind.BAR, ":|" if closes else "|")
            elif not closes and at == marks[-1][0]:
                before = [
                    mark.text for _, mark in marks[:-1] if ":" in mark.text or mark.kind is not Kind.BAR
                ]
                plain[at] = Token(Kind.BAR, ":|" if before and before[-1][-1] == ":" else "|")
            if closes or not opens:
                break
    if not plain or any(map(_changes_voice, tokens)):
        return lines
    place = count()
    return [[plain.get(next(place), token) for token in line] for line in lines]


def without_held_bar_lines(lines: Lines) -> Lines:
    """``lines`` without an invisible rest that only carries a sign (``Hx|``): it stands for the bar line.

    It would make a full bar too long.
    """
    return [
        _without_held_bar_lines(line) if any(token.text == "x" for token in line) else line for line in lines
    ]


def _without_held_bar_lines(line: list[Token]) -> list[Token]:
    kept: list[Token] = []
    after = _kinds_after(line)
    for token, following in zip(line, after, strict=True):
        if token.text == "x" and following is Kind.BAR and kept and kept[-1].kind in _SIGNS:
            while kept and kept[-1].kind in _SIGNS:
                kept.pop()
        else:
            kept.append(token)
    return kept


def _kinds_after(line: list[Token]) -> list[Kind | None]:
    """For each token the kind of the next one that is no space."""
    kinds: list[Kind | None] = []
    following: Kind | None = None
    for token in reversed(line):
        kinds.append(following)
        following = following if token.kind is Kind.SPACE else token.kind
    return kinds[::-1]


def _has(lines: Lines, *kinds: Kind) -> bool:
    return bool([token for line in lines for token in line if token.kind in kinds])


def _changes_voice(token: Token) -> bool:
    return token.kind is Kind.INLINE and token.text.lstrip("[").startswith("V:")


def _in_order(lines: Lines) -> list[Token]:
    return [token for line in lines for token in line]

"""Two slips of transcribers that players call errors, repaired without a change to what is meant.

Both functions take and return the lines of a body as lists of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from reelmill.notation.tokens import Kind, Token, note_parts

Lines = list[list[Token]]


def without_false_ties(lines: Lines) -> Lines:
    """``lines`` without ties from one note to another at a different place of the staff, or to a rest.

    In old books a hyphen often stands for a slur. Ties beside chords stay: they may tie one of the notes.
    """
    false: set[int] = set()  # the identities of tokens
    waiting: list[Token] = []  # ties since the last sound
    last = ""  # place of the last note, empty if it was none
    bracket = ""
    for token in _in_order(lines):
        kind = token.kind
        if kind is Kind.CHORD_OPEN or kind is Kind.GRACE_OPEN:
            bracket = token.text[0]
        elif kind is Kind.GRACE_CLOSE:
            bracket = ""
        elif bracket == "{":
            continue
        elif kind is Kind.TIE:
            waiting.append(token)
        elif kind is Kind.CHORD_CLOSE or kind is Kind.OVERLAY or _changes_voice(token):
            last, waiting, bracket = "", [], ""
        elif (kind is Kind.NOTE or kind is Kind.REST) and not bracket:
            place = "".join(note_parts(token.text)[1:3]) if kind is Kind.NOTE else "rest"
            if last and place != last:
                false.update(map(id, waiting))
            last, waiting = place, []
    return [[token for token in line if id(token) not in false] for line in lines]


def with_opened_repeats(lines: Lines) -> Lines:
    """``lines`` with ``|:`` where a part with a first ending begins after ``:|`` and none opens its repeat.

    Players that do not open it for themselves lose the repeat.
    """
    unopened: set[int] = set()  # the identities of the first tokens of such parts
    closed = False  # whether the last repeat sign was a ``:|``
    start: Token | None = None  # the first token of the part after it
    for token in _in_order(lines):
        if token.kind is Kind.BAR and ":" in token.text:
            closed = token.text[0] == ":" and token.text[-1] != ":"
            start = None
        elif token.kind is Kind.ENDING or token.kind is Kind.NUMBER:
            if start and token.text.lstrip("[")[0] == "1":
                unopened.add(id(start))
            closed, start = False, None
        elif _changes_voice(token):
            closed, start = False, None
        elif closed and not start and token.kind not in (Kind.BAR, Kind.SPACE, Kind.INLINE):
            start = token
    opening = Token(Kind.BAR, "|:")
    return [
        [new for old in line for new in ([opening, old] if id(old) in unopened else [old])] for line in lines
    ]


def _changes_voice(token: Token) -> bool:
    return token.kind is Kind.INLINE and token.text.lstrip("[").startswith("V:")


def _in_order(lines: Lines) -> Iterable[Token]:
    return (token for line in lines for token in line)

"""The canonical form of a tune: what a model learns from, and nothing else.

Header: ``X:1`` first and ``K:`` last, whatever was asked for; between them those of the asked fields that the
tune has, one line each, in the order T, others by alphabet, R, M, L, Q. No space after the colon, runs of
spaces made one. Of several values the first is kept; of M:, L: and Q:, which players read, the last.

Keys are written short: ``K:D``, ``K:Em``, ``K:Ador``, and with ``mix``, ``phr``, ``lyd``, ``loc`` likewise
(``K:E Minor`` becomes ``K:Em``, ``K:D Ionian`` becomes ``K:D``), accidentals after a space (``K:Dmix =c``),
clefs left out. Meters have no spaces, tempos no quoted words, rhythms (R:) no capitals.

Body: as written, except that

- comments, ``%%`` directives, lyrics, symbol lines and every field but K:, M:, L:, V: (and Q: if asked for)
  go, as lines and inline;
- quoted text goes unless it is a chord symbol (``"Am7/G"``);
- a line that ends in a backslash is joined with the next;
- line-break marks (``!``), beam marks (`````), spacers (``y``), decorations with names no player knows
  (``!4!``) and characters that mean nothing where they stand go;
- one-letter decorations stand right before their note (``T(AB)`` becomes ``(TAB)``), or go;
- ties between different places of the staff, which can only be slurs, go, and so do ties to rests;
- a part with endings that begins after ``:|`` gets the ``|:`` it lacks: ``A:|B|1c:|2d|]`` becomes
  ``A:||:B|1c:|2d|]``;
- runs of spaces become one, none at the ends of lines; an ending's number follows its bar line directly;
- ``+CEG+`` of ABC 1.6 becomes ``[CEG]``, ``:]`` becomes ``:|``, the invisible bar line ``[|]`` goes.

The text ends with one newline and has no blank line. Notes and their lengths are never changed; with M: and
L: among the asked fields the tune sounds as before, apart from a tempo or an order of parts (P:) that was
left out, and from what a player could not make out before: a decoration out of place, a repeat that nothing
opens. The form is a fixed point: canonical(canonical(tune)) == canonical(tune).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reelmill.notation.header import body_field, split_tune
from reelmill.notation.keys import parse_key
from reelmill.notation.meter import parse_meter, parse_unit, unit_text
from reelmill.notation.repairs import with_opened_repeats, without_false_ties
from reelmill.notation.tokens import Kind, Token, tokenize

LONGEST = 1_000_000
"""Characters; what is longer is no tune, and would only take long to say so."""

_FIRST, _LAST = "XT", "RMLQK"
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_QUOTED = re.compile(r'"[^"]*"?')
_CHORD_SYMBOL = re.compile(
    r"[A-G][#b]?(?:maj|min|dim|aug|sus|add|[mM+0-9#b]){0,6}(?:\([#b]?\d{1,2}\))?(?:/[A-G][#b]?)?"
)
# ABC 2.1 section 4.14, without those that only say how to finger.
_PLAYED = re.compile(
    r"trill[()]?|(?:lower|upper)?mordent|pralltriller|roll|(?:inverted)?turnx?|arpeggio|>|accent|emphasis|tenuto"
    r"|(?:inverted)?fermata|wedge|slide|staccato|p{1,4}|m[pf]|f{1,4}|sfz|(?:crescendo|diminuendo|[<>])[()]|segno"
    r"|coda|D\.[SC]\.|dacoda|dacapo|fine|(?:short|medium|long)phrase|upbow|downbow|open|thumb|snap|breath"
)
_SOUNDS = (Kind.NOTE, Kind.REST)
_BETWEEN_SIGN_AND_SOUND = (Kind.SLUR_OPEN, Kind.TUPLET, Kind.QUOTED, Kind.DECORATION)
_AFTER_SOUND = (*_SOUNDS, Kind.CHORD_CLOSE, Kind.SLUR_CLOSE, Kind.GRACE_CLOSE, Kind.QUOTED)

_UNBALANCED = {"[": "unbalanced chord brackets", "{": "unbalanced grace note braces"}
_SPACES = re.compile(" +")


class NotATune(ValueError):
    """The text is not a tune that can be used. ``reason`` is a short phrase, the same for like cases."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def canonical(text: str, fields: Sequence[str]) -> str:
    """The one tune in ``text`` in canonical form (see above) with the header fields named in ``fields``.

    Raises NotATune, and nothing else, whatever the text is.
    """
    if len(text) > LONGEST:
        raise NotATune("longer than a million characters")
    if _CONTROL.search(text):
        raise NotATune("control characters")
    found, lines = split_tune(text)
    head = _header(found, set(fields))
    body = _body(lines, set(fields))
    return "\n".join([*head, *body]) + "\n"


def _header(found: Iterable[tuple[str, str]], asked: set[str]) -> list[str]:
    values: dict[str, str] = {}
    for name, value in found:
        if name == "m":
            raise NotATune("macros")
        if name in "MLQK" or not values.get(name):
            values[name] = value
    if "K" not in values:
        raise NotATune("no K field")
    kept = {name: field_value(name, values[name]) for name in asked | {"K"} if name in values}
    kept["X"] = "1"
    names = [*_FIRST, *sorted(asked.difference(_FIRST + _LAST)), *_LAST]
    return [f"{name}:{kept[name]}" for name in names if kept.get(name)]


def field_value(name: str, value: str) -> str:
    """``value`` of a field ``name`` in canonical form, empty if nothing is left of it; raises NotATune."""
    if name == "K":
        key = parse_key(value)
        if key is None:
            raise NotATune("unknown key")
        return key.text
    if name == "M" and value:
        meter = parse_meter(value)
        if meter is None:
            raise NotATune("malformed meter")
        return meter.text
    if name == "L" and value:
        unit = parse_unit(value)
        if unit is None:
            raise NotATune("malformed unit note length")
        return unit_text(unit)
    if name == "Q":
        value = _QUOTED.sub(" ", value)
    if name == "R":
        value = value.lower()
    if name == "V":
        value = value.split(maxsplit=1)[0] if value.split() else ""
    return " ".join(value.replace("%", " ").split()).rstrip("\\ ")


def _body(lines: Iterable[str], asked: set[str]) -> list[str]:
    kept = {"K", "M", "L", "V"} | ({"Q"} & asked)
    body: list[list[Token]] = []
    notes = length = strays = 0
    for line in _joined(lines, kept):
        found = body_field(line)
        if found:
            value = field_value(*found) if found[0] in kept else ""
            body.append([Token(Kind.INLINE, f"{found[0]}:{value}")] if value else [])
        else:
            tokens = tokenize(line)
            music = _music(tokens, kept)
            notes += sum(token.kind is Kind.NOTE for token in music)
            length += len(line)
            strays += sum(token.kind is Kind.STRAY for token in tokens)
            body.append(music)
    if strays > 10 and strays > length / 10:
        raise NotATune("prose among the music")
    if not notes:
        raise NotATune("no notes")
    repaired = with_opened_repeats(without_false_ties(body))
    texts = (_SPACES.sub(" ", "".join(token.text for token in line)).strip() for line in repaired)
    return [text for text in texts if text]


def _music(tokens: Iterable[Token], fields: set[str]) -> list[Token]:
    """The tokens of a line that stay, in canonical form."""
    music: list[Token] = []
    last = Kind.STRAY  # the last kind that stays, spaces and ties apart
    ending_may_follow = False
    inside = ""  # the bracket that is open
    for token in tokens:
        inside = _bracket(inside, last, token)
        if token.kind is Kind.NUMBER:
            if not ending_may_follow or last is not Kind.BAR:
                continue
            while music[-1].kind is Kind.SPACE:
                music.pop()
        misplaced = token.kind is Kind.BROKEN and last not in _AFTER_SOUND
        if misplaced or (token.kind is Kind.SPACE and inside == "["):
            continue
        for piece in _rewritten(token, fields):
            music.append(piece)
            last = last if piece.kind in (Kind.SPACE, Kind.TIE) else piece.kind
        if token.kind not in (Kind.SPACE, Kind.QUOTED):
            ending_may_follow = token.kind is Kind.BAR
    if inside:
        raise NotATune(_UNBALANCED[inside])
    return _with_signs_in_place(music)


def _bracket(inside: str, last: Kind, token: Token) -> str:
    if token.kind in (Kind.CHORD_OPEN, Kind.GRACE_OPEN):
        opened = token.text[0]
        if inside:
            # A chord may stand among grace notes, but that is more than players agree on.
            raise NotATune(_UNBALANCED[opened])
        return opened
    if token.kind in (Kind.CHORD_CLOSE, Kind.GRACE_CLOSE):
        opened = "[" if token.kind is Kind.CHORD_CLOSE else "{"
        if inside != opened or last in (Kind.CHORD_OPEN, Kind.GRACE_OPEN):
            raise NotATune(_UNBALANCED[opened])
        return ""
    if inside and token.kind in (Kind.BAR, Kind.ENDING, Kind.INLINE):
        raise NotATune(_UNBALANCED[inside])
    return inside


def _rewritten(token: Token, fields: set[str]) -> list[Token]:
    """What becomes of a token whose place is right: itself, another form, or nothing."""
    kind, text = token.kind, token.text
    if kind is Kind.SPACE:
        return [Token(kind, " ")] if text.strip("`") else []
    if kind is Kind.QUOTED:
        chord = text[1:-1].strip()
        return [Token(kind, f'"{chord}"')] if _CHORD_SYMBOL.fullmatch(chord) else []
    if kind is Kind.DECORATION:
        return [token] if _PLAYED.fullmatch(text[1:-1]) else []
    if kind is Kind.INLINE:
        name, value = text[1], field_value(text[1], text[3:-1]) if text[1] in fields else ""
        return [Token(kind, f"[{name}:{value}]")] if value else []
    if kind is Kind.OLD_CHORD:
        notes = tokenize(text[1:-1])
        right = all(note.kind is Kind.NOTE for note in notes)
        return [Token(Kind.CHORD_OPEN, "["), *notes, Token(Kind.CHORD_CLOSE, "]")] if right else []
    if kind is Kind.BAR:
        return [] if text == "[|]" else [Token(kind, text.replace(":]", ":|"))]
    if kind is Kind.STRAY and text == '"':
        raise NotATune("unclosed quotation mark")
    return [] if kind in (Kind.STRAY, Kind.SPACER) else [token]


def _with_signs_in_place(music: Iterable[Token]) -> list[Token]:
    """With one-letter decorations right before the note they decorate; those that decorate none go."""
    placed: list[Token] = []
    waiting: list[Token] = []
    while_grace: list[Token] = []
    for token in music:
        if token.kind is Kind.SIGN:
            waiting.append(token)
            continue
        if token.kind is Kind.GRACE_OPEN:
            waiting, while_grace = [], waiting
        elif token.kind is Kind.GRACE_CLOSE:
            waiting, while_grace = while_grace, []
        elif token.kind in (*_SOUNDS, Kind.CHORD_OPEN):
            placed += waiting
            waiting = []
        elif token.kind not in _BETWEEN_SIGN_AND_SOUND:
            waiting = []
        placed.append(token)
    return placed


def _joined(lines: Iterable[str], kept: set[str]) -> Iterator[str]:
    """Lines with those that end in a backslash joined to the next; fields on the way become inline ones."""
    pending: list[str] = []
    for line in lines:
        found = body_field(line)
        if found and pending:
            if found[0] in kept:
                pending.append(f"[{found[0]}:{found[1]}]")
        elif found:
            if found[0] == "X":
                raise NotATune("several tunes in one")
            yield line
        elif line.endswith("\\"):
            pending.append(line.rstrip("\\"))
        else:
            yield "".join([*pending, line])
            pending = []
    if pending:
        yield "".join(pending)

"""The canonical form of a tune: what a model learns from, and nothing else.

Header: ``X:1`` first and ``K:`` last, whatever was asked for; between them those of the asked fields that the
tune has, one line each, in the order T, others by alphabet, R, M, L, Q. No space after the colon, runs of
spaces made one. Of several values the first is kept; of M:, L: and Q:, which players read, the last.

Keys are written short: ``K:D``, ``K:Em``, ``K:Ador``, and with ``mix``, ``phr``, ``lyd``, ``loc`` likewise
(``K:E Minor`` becomes ``K:Em``, ``K:D Ionian`` becomes ``K:D``), accidentals after a space (``K:Dmix =c``),
clefs left out. Meters have no spaces, tempos no quoted words, rhythms (R:) no capitals, text no escapes
(``Caf\\'e`` becomes ``Café``).

Body: as written, except that

- an order of parts (P:) is written out, and a section between ``|::`` and ``::|`` as often as it is played;
- octaves of clefs, of K: and of V: are written into the notes (``octaves``);
- comments, ``%%`` directives, lyrics, symbol lines and every field but K:, M:, L:, V: (and Q: if asked for)
  go, as lines and inline; the letters of U: become what they stand for;
- quoted text goes unless it is a chord symbol, which has the name that abc2midi knows (``"Am7/G"``);
- a line that ends in a backslash is joined with the next;
- line-break marks (``!``), beam marks (`````), spacers (``y``), decorations with names no player knows
  (``!4!``) and characters that mean nothing where they stand go;
- one-letter decorations stand right before their note (``T(AB)`` becomes ``(TAB)``), or go;
- ties between different places of the staff, which can only be slurs, go, and so do ties to rests and after
  grace notes;
- a part with endings that begins after ``:|`` gets the ``|:`` it lacks: ``A:|B|1c:|2d|]`` becomes
  ``A:||:B|1c:|2d|]``; a repeat that nothing closes is none;
- runs of spaces become one, none at the ends of lines; an ending's number follows its bar line directly;
- an invisible rest that only carries a sign over a bar line goes, with the sign: ``G6Hx||`` becomes ``G6||``;
- ``|:|`` at the end is ``:|``, or ``|`` where nothing is open; ``||]`` is ``|]``;
- ``+trill+`` becomes ``!trill!``, ``+CEG+`` of ABC 1.6 ``[CEG]``, ``:]`` ``:|``; the invisible bar
  line ``[|]`` goes.

The text ends with one newline and has no blank line. Lengths of notes are never changed; with M: and L: among
the asked fields the tune sounds as before, apart from a tempo that was left out, and from what a player could
not make out before: a decoration out of place, a repeat that nothing opens. The form is a fixed point:
canonical(canonical(tune)) == canonical(tune).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from reelmill.notation.chords import chord_symbol
from reelmill.notation.header import body_field, split_tune
from reelmill.notation.keys import NO_KEY, names_key, parse_key, sounding_words
from reelmill.notation.meter import parse_meter, parse_unit, unit_text
from reelmill.notation.octaves import BeyondMidi, written_octaves
from reelmill.notation.parts import TooManyParts, written_out
from reelmill.notation.repairs import (
    with_closed_repeats,
    with_opened_repeats,
    with_plain_repeats,
    without_false_ties,
    without_held_bar_lines,
)
from reelmill.notation.symbols import decoration, user_symbols
from reelmill.notation.text import accented, typewritten, unescaped
from reelmill.notation.tokens import Kind, Token, tokenize

LONGEST = 1_000_000
"""Characters; what is longer is no tune, and would only take long to say so."""

_FIRST, _LAST = "XT", "RMLQK"
_WRITTEN_OUT = "PUV"  # what these fields say stands in the body
_TEMPO = re.compile(r"(?:(?:C|C?\d+/\d+|C\d*)(?: \d+/\d+)* ?= ?)?\d+(?:\.\d+)?")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_QUOTED = re.compile(r'"[^"]*"?')
# Read once: the members of an enumeration are looked up slowly.
_SOUNDS = (Kind.NOTE, Kind.REST)
_BEGIN_SOUND = (*_SOUNDS, Kind.CHORD_OPEN)
_OPEN, _CLOSE = (Kind.CHORD_OPEN, Kind.GRACE_OPEN), (Kind.CHORD_CLOSE, Kind.GRACE_CLOSE)
_BRACKETS = (*_OPEN, *_CLOSE)
_REWRITTEN = (
    Kind.BAR, Kind.QUOTED, Kind.DECORATION, Kind.INLINE, Kind.OLD_CHORD, Kind.STRAY, Kind.SPACER,
    Kind.UNKNOWN,
)  # fmt: skip
_BETWEEN_SIGN_AND_SOUND = (Kind.SLUR_OPEN, Kind.TUPLET, Kind.QUOTED, Kind.DECORATION)
_AFTER_SOUND = (*_SOUNDS, Kind.CHORD_CLOSE, Kind.SLUR_CLOSE, Kind.GRACE_CLOSE, Kind.QUOTED)

_UNBALANCED = {"[": "unbalanced chord brackets", "{": "unbalanced grace note braces"}
_SPACES = re.compile(" +")
_SPACE = Token(Kind.SPACE, " ")
_BREAKS = "$!*"  # strays that break lines


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
    found, lines = split_tune(unescaped(text))
    try:
        head = _header(found, set(fields))
        played = written_out(found, lines)
        if sum(map(len, played)) > LONGEST:
            raise NotATune("longer than a million characters")
        body = _body(found, played, set(fields))
        head["K"], body = written_octaves(found, head["K"], body)
    except (TooManyParts, BeyondMidi) as error:
        raise NotATune(str(error)) from None
    return "\n".join([*(f"{name}:{value}" for name, value in head.items()), *_texts(body)]) + "\n"


def _header(found: Iterable[tuple[str, str]], asked: set[str]) -> dict[str, str]:
    """The fields that stay in their order, K: last."""
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
    if not names_key(values["K"]):
        kept["K"] = kept["K"] if kept["K"].startswith(NO_KEY.text) else f"{NO_KEY.text} {kept['K']}".strip()
    names = [*_FIRST, *sorted(asked.difference(_FIRST + _LAST + _WRITTEN_OUT)), *_LAST]
    return {name: kept[name] for name in names if kept.get(name)}


def field_value(name: str, value: str) -> str:
    """``value`` of a field ``name`` in canonical form, empty if nothing is left of it; raises NotATune."""
    if name == "K":
        return _key_value(value)
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
        value = " ".join(_QUOTED.sub(" ", value).split())
        return value if _TEMPO.fullmatch(value) else ""
    if name == "R":
        value = value.lower()
    if name == "V":
        words = _QUOTED.sub(" ", value).split()
        return " ".join([*words[:1], *sounding_words(words[1:])])
    return " ".join(accented(value).replace("%", " ").split()).rstrip("\\ ")


def _key_value(value: str) -> str:
    """A key in canonical form, and behind it the words that move the notes, for ``written_octaves``."""
    key = parse_key(value)
    if key is None:
        raise NotATune("unknown key")
    named = [replace(key, sounding=()).text] if names_key(value) or key.accidentals or key.explicit else []
    return " ".join([*named, *key.sounding])


def _body(head: Iterable[tuple[str, str]], lines: Sequence[str], asked: set[str]) -> list[list[Token]]:
    kept = {"K", "M", "L", "V"} | ({"Q"} & asked)
    symbols = user_symbols(
        value for name, value in [*head, *filter(None, map(body_field, lines))] if name == "U"
    )
    body: list[list[Token]] = []
    notes = length = strays = 0
    note, stray = Kind.NOTE, Kind.STRAY
    for line in _joined(lines, kept):
        found = body_field(line)
        if found:
            value = field_value(*found) if found[0] in kept else ""
            body.append([Token(Kind.INLINE, f"{found[0]}:{value}")] if value else [])
        else:
            tokens = tokenize(typewritten(line))
            music = _music(_with_meanings(tokens, symbols) if symbols else tokens, kept)
            notes += len([token for token in music if token.kind is note])
            length += len(line)
            odd = [token.text for token in tokens if token.kind is stray]
            strays += len([text for text in odd if text not in symbols and text not in _BREAKS])
            body.append(music)
    if strays > 10 and strays > length / 10:
        raise NotATune("prose among the music")
    if not notes:
        raise NotATune("no notes")
    body = without_held_bar_lines(without_false_ties(body))
    return with_opened_repeats(with_closed_repeats(with_plain_repeats(body)))


def _texts(body: Iterable[Iterable[Token]]) -> list[str]:
    texts = (_SPACES.sub(" ", "".join([token.text for token in line])).strip() for line in body)
    return [text for text in texts if text]


def _with_meanings(tokens: Iterable[Token], symbols: Mapping[str, str]) -> Iterator[Token]:
    """The tokens with what U: fields say instead of their letters."""
    for token in tokens:
        if token.kind in (Kind.SIGN, Kind.STRAY) and token.text in symbols:
            meaning = symbols[token.text]
            if meaning:
                yield Token(Kind.QUOTED if meaning[0] == '"' else Kind.DECORATION, meaning)
        else:
            yield token


def _music(tokens: Iterable[Token], fields: set[str]) -> list[Token]:
    """The tokens of a line that stay, in canonical form."""
    music: list[Token] = []
    signs = False
    last = Kind.STRAY  # the last kind that stays, spaces and ties apart
    ending_may_follow = False
    inside = ""  # the brackets that are open
    note, bar, number, space = Kind.NOTE, Kind.BAR, Kind.NUMBER, Kind.SPACE
    broken, tie, sign, quoted = Kind.BROKEN, Kind.TIE, Kind.SIGN, Kind.QUOTED
    for token in tokens:
        kind = token.kind
        if kind is note:  # most are, and they stay as they are wherever they stand
            music.append(token)
            last, ending_may_follow = note, False
            continue
        if kind is space:
            if token.text.strip("`") and not inside.endswith("["):
                music.append(_SPACE)
            continue
        if inside or kind in _BRACKETS:
            inside = _bracket(inside, last, token)
        if kind is number:
            if not ending_may_follow or last is not bar:
                continue
            while music[-1].kind is space:
                music.pop()
        if kind is broken and last not in _AFTER_SOUND:
            continue
        for piece in _rewritten(token, fields) if kind in _REWRITTEN else (token,):
            music.append(piece)
            last = last if piece.kind is tie else piece.kind
        signs = signs or kind is sign
        if kind is not quoted:
            ending_may_follow = kind is bar
    if inside:
        raise NotATune(_UNBALANCED[inside[-1]])
    return _with_signs_in_place(music) if signs else music


def _bracket(inside: str, last: Kind, token: Token) -> str:
    """The brackets that are open after ``token``: those before it were ``inside``, outermost first."""
    if token.kind in _OPEN:
        opened = token.text[0]
        if inside and inside + opened != "{[":  # chords may stand among grace notes
            raise NotATune(_UNBALANCED[opened])
        return inside + opened
    if token.kind in _CLOSE:
        opened = "[" if token.kind is Kind.CHORD_CLOSE else "{"
        if not inside.endswith(opened) or last in (Kind.CHORD_OPEN, Kind.GRACE_OPEN):
            raise NotATune(_UNBALANCED[opened])
        return inside[:-1]
    if inside and token.kind in (Kind.BAR, Kind.ENDING, Kind.INLINE):
        raise NotATune(_UNBALANCED[inside[-1]])
    return inside


def _rewritten(token: Token, fields: set[str]) -> list[Token]:
    """What becomes of a token of a kind that may change and whose place is right: this, or nothing."""
    kind, text = token.kind, token.text
    if kind is Kind.BAR:
        return [] if text == "[|]" else [Token(kind, _bar_line(text)) if "]" in text else token]
    if kind is Kind.QUOTED:
        chord = chord_symbol(text[1:-1])
        return [Token(kind, f'"{chord}"')] if chord else []
    if kind is Kind.DECORATION:
        known = decoration(text[1:-1])
        return [Token(kind, known)] if known else []
    if kind is Kind.INLINE:
        name, value = text[1], field_value(text[1], text[3:-1]) if text[1] in fields else ""
        return [Token(kind, f"[{name}:{value}]")] if value else []
    if kind is Kind.OLD_CHORD:
        written, length = text[1:].split("+")
        notes = tokenize(written)
        right = all(note.kind is Kind.NOTE for note in notes)
        return [Token(Kind.CHORD_OPEN, "["), *notes, Token(Kind.CHORD_CLOSE, f"]{length}")] if right else []
    if kind is Kind.STRAY and text == '"':
        raise NotATune("unclosed quotation mark")
    return []  # a stray, a spacer, or what is unknown


def _bar_line(text: str) -> str:
    """A bar line as players know it: ``:]`` is ``:|``, and ``||]`` is ``|]``."""
    text = text.replace(":]", ":|")
    return "|]" if text == "||]" else text


def _with_signs_in_place(music: Iterable[Token]) -> list[Token]:
    """With one-letter decorations right before the note they decorate; those that decorate none go."""
    placed: list[Token] = []
    waiting: list[Token] = []
    while_grace: list[Token] = []
    sign, grace_open, grace_close = Kind.SIGN, Kind.GRACE_OPEN, Kind.GRACE_CLOSE
    for token in music:
        kind = token.kind
        if kind is sign:
            waiting.append(token)
            continue
        if kind is grace_open:
            waiting, while_grace = [], waiting
        elif kind is grace_close:
            waiting, while_grace = while_grace, []
        elif waiting and kind in _BEGIN_SOUND:
            placed += waiting
            waiting = []
        elif waiting and kind not in _BETWEEN_SIGN_AND_SOUND:
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

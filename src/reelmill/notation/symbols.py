"""Decorations and the letters that stand for them, ABC 2.1 sections 4.14 and 4.16."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reelmill.notation.chords import chord_symbol

# The names of section 4.14, without those that only say how to finger.
_NAMES = (
    r"trill[()]?|(?:lower|upper)?mordent|pralltriller|roll|(?:inverted)?turnx?|arpeggio|>|accent|emphasis"
    r"|tenuto|(?:inverted)?fermata|wedge|slide|staccato|p{1,4}|m[pf]|f{1,4}|sfz"
    r"|(?:crescendo|diminuendo|[<>])[()]|segno|coda|D\.[SC]\.|dacoda|dacapo|fine|(?:short|medium|long)phrase"
    r"|upbow|downbow|open|thumb|snap|breath|plus"
)
PLUS_NAMES = rf"(?:{_NAMES}|[0-5]|D\.[CS]\.\w{{0,9}})"
"""A pattern of what stands between plus signs as between exclamation marks, not as a chord of ABC 1.6."""

_PLAYED = re.compile(_NAMES)
_DEFINITION = re.compile(r"([~H-Wh-w])\s*=\s*(.*)", re.DOTALL)
_USUAL = {
    "~": "roll", "H": "fermata", "L": "accent", "M": "lowermordent", "O": "coda", "P": "uppermordent",
    "S": "segno", "T": "trill", "u": "upbow", "v": "downbow",
}  # fmt: skip


def decoration(name: str) -> str:
    """The decoration as it stands among notes: ``!trill!``; empty if no player knows the ``name``."""
    return f"!{name}!" if _PLAYED.fullmatch(name) else ""


def user_symbols(values: Iterable[str]) -> dict[str, str]:
    """What the letters that U: fields define stand for: a decoration, a chord symbol, or nothing.

    ``values`` are those of the fields in order. A letter that keeps its usual meaning is left out.
    """
    symbols: dict[str, str] = {}
    for value in values:
        match = _DEFINITION.fullmatch(value.strip())
        if not match:
            continue
        letter, meaning = match[1], match[2].strip()
        name = meaning[1:-1]
        if meaning[:1] == '"':
            chord = chord_symbol(name)
            symbols[letter] = f'"{chord}"' if chord else ""
        elif name == _USUAL.get(letter):
            symbols.pop(letter, None)
        else:
            symbols[letter] = decoration(name)
    return symbols

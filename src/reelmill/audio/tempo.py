"""How fast a tune is danced: the tempo of one that has no Q:, by its rhythm (R:), else by its meter.

Where the figures come from is said in docs/songs.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from reelmill.notation.meter import parse_meter

TEMPOS = {
    "reel": "1/2=112",
    "hornpipe": "1/2=92",
    "clog": "1/2=92",
    "fling": "1/2=92",
    "barndance": "1/2=92",
    "schottische": "1/2=92",
    "strathspey": "1/4=116",
    "jig": "3/8=120",
    "slip jig": "3/8=120",
    "slide": "3/8=132",
    "polka": "1/4=132",
    "march": "1/4=118",
    "waltz": "1/4=120",
    "mazurka": "1/4=120",
    "air": "1/4=66",
    "C": "1/2=104",
    "C|": "1/2=104",
    "4/4": "1/2=104",
    "2/2": "1/2=104",
    "2/4": "1/4=104",
    "3/4": "1/4=100",
    "3/2": "1/2=104",
    "3/8": "3/8=60",
    "6/8": "3/8=120",
    "9/8": "3/8=120",
    "12/8": "3/8=120",
}
"""By rhythm, then by meter: a length in whole notes and how many of them a minute has, as in a Q: field."""

PLAIN = "1/4=120"  # what abc2midi plays where nothing is known
_TEMPO = re.compile(r"(\d+/\d+)=(\d+(?:\.\d+)?)")
_RHYTHM = re.compile(r"^R:[ \t]*(.*)", re.MULTILINE)
_METER = re.compile(r"^M:[ \t]*([^%\n]*)", re.MULTILINE)
_NAMED = re.compile(r"^Q:.*\d", re.MULTILINE)
_QUARTER, _HALF, _DOTTED = Fraction(1, 4), Fraction(1, 2), Fraction(3, 8)


def with_usual(given: Any) -> Any:
    """``TEMPOS`` with what is ``given`` in its place, for the setting. ValueError if that is no tempo."""
    if not isinstance(given, Mapping) or not all(_TEMPO.fullmatch(str(tempo)) for tempo in given.values()):
        raise ValueError("should give rhythms or meters a tempo, for example {reel: 1/2=112}")
    return {**TEMPOS, **given}


def with_tempo(tune: str, tempos: Mapping[str, str]) -> str:
    """``tune`` with a Q: field by ``tempos``, unless its header has one that says a number."""
    head, key, rest = tune.partition("\nK:")
    if not tempos or _NAMED.search(head):
        return tune
    rhythm, meters = _RHYTHM.search(head), _METER.findall(head)
    length, number = usual(rhythm[1] if rhythm else "", meters[-1] if meters else "", tempos)
    return f"{head}\nQ:{length}={number}{key}{rest}" if key else tune


def usual(rhythm: str, meter: str, tempos: Mapping[str, str] = TEMPOS) -> tuple[Fraction, str]:
    """The beat in whole notes and how many a minute has: of the longest name that is in ``rhythm``, else of
    ``meter``.

    Two beats a bar stay two in 2/4, where reels are written in notes half as long: their half is a quarter
    there. A quarter is a dotted one in compound meters.
    """
    return _usual(rhythm.lower(), "".join(meter.split()), tuple(tempos.items()))


@lru_cache(maxsize=4096)
def _usual(rhythm: str, meter: str, tempos: tuple[tuple[str, str], ...]) -> tuple[Fraction, str]:
    table = dict(tempos)
    words = rhythm.replace("slipjig", "slip jig").replace("barn dance", "barndance")
    named = [name for name in table if re.search(rf"\b{re.escape(name)}s?\b", words)]
    length, number = table.get(max(named, key=len) if named else meter, PLAIN).split("=")
    beat, bars = Fraction(length), parse_meter(meter)
    if beat == _HALF and bars and bars.bar == _HALF:
        beat = _QUARTER
    elif beat == _QUARTER and bars and bars.compound:
        beat = _DOTTED
    return beat, number

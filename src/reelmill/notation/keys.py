"""Keys (K:), ABC 2.1 section 3.1.14: tonic, mode, accidentals, and the signature that follows from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

LETTERS = "CDEFGAB"
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTERATIONS = {"": 0, "=": 0, "^": 1, "^^": 2, "_": -1, "__": -2}
ACCIDENTALS = {0: "=", 1: "^", 2: "^^", -1: "_", -2: "__"}

_SHARPS = "FCGDAEB"  # the order in which sharps enter a signature
_FIFTHS = {letter: position - 1 for position, letter in enumerate(_SHARPS)}  # of the major key on each letter
_MODES = {"": 0, "mix": -1, "dor": -2, "m": -3, "phr": -4, "loc": -5, "lyd": 1}  # fifths away from major
_SAME_MODE = {"maj": "", "ion": "", "min": "m", "aeo": "m"}
_KEY = re.compile(r"([A-G])([#b]?) *([A-Za-z]*)(.*)")
_ALTERED = re.compile(r"(\^\^|__|\^|_|=)([A-Ga-g])")
_SOUNDING = re.compile(r"(?:octave|transpose)=-?\d{1,2}")
_LOOKS = re.compile(
    r"(?:clef|middle|stafflines|staffscale|style|name|snm|m)=\S*|treble\S*|bass\S*|alto\d?|tenor|perc"
)


@dataclass(frozen=True)
class Key:
    """A key. ``tonic`` is ``F#``, ``Bb`` …, or ``none`` or ``HP`` (Highland pipes), which have no mode.

    ``mode`` is empty (major), ``m``, ``dor``, ``phr``, ``lyd``, ``mix`` or ``loc``. ``accidentals`` (``^f``)
    change the signature; with ``explicit`` they are all there is of it. ``sounding`` keeps ``octave=`` and
    ``transpose=``.
    """

    tonic: str
    mode: str = ""
    explicit: bool = False
    accidentals: tuple[str, ...] = ()
    sounding: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The key as canonical ABC has it: ``D``, ``Em``, ``Ador``, ``Dmix =c``."""
        explicit = ("exp",) if self.explicit else ()
        return " ".join((self.tonic + self.mode, *explicit, *self.accidentals, *self.sounding))

    @property
    def fifths(self) -> int:
        """Sharps in the signature of tonic and mode alone; flats count as negative."""
        if self.tonic == "none":
            return 0
        if self.tonic == "HP":
            return 2
        return (
            _FIFTHS[self.tonic[0]] + 7 * (self.tonic.count("#") - self.tonic.count("b")) + _MODES[self.mode]
        )

    @cached_property
    def signature(self) -> Mapping[str, int]:
        """The alteration of each letter C to B, in semitones."""
        altered = dict.fromkeys(LETTERS, 0)
        if not self.explicit:
            for letter in _SHARPS[: max(self.fifths, 0)]:
                altered[letter] = 1
            for letter in _SHARPS[::-1][: max(-self.fifths, 0)]:
                altered[letter] = -1
        for accidental in self.accidentals:
            altered[accidental[-1].upper()] = ALTERATIONS[accidental[:-1]]
        return altered


NO_KEY = Key("none")


def key_with(fifths: int, mode: str) -> Key:
    """The key of ``mode`` with ``fifths`` sharps (flats if negative) in its signature, -7 to 7."""
    accidental, letter = divmod(fifths - _MODES[mode] + 1, 7)
    return Key(_SHARPS[letter] + "#" * accidental + "b" * -accidental, mode)


@lru_cache(maxsize=4096)
def parse_key(value: str) -> Key | None:
    """The key in ``value``; None if it is not one, or has more than seven sharps or flats.

    Long names are understood (``E Minor``, ``Ddorian``); what only changes the look (clefs) is left out. As
    in ABC 2.1, capitals of the mode do not matter, so ``EM`` is E minor.
    """
    words = value.split()
    if not words or words[0].lower() == "none":
        return _with_words(NO_KEY, words[1:])
    if words[0] in ("HP", "Hp"):
        return _with_words(Key("HP"), words[1:])
    match = _KEY.fullmatch(" ".join(words))
    if not match:
        return None
    mode = match[3].lower()[:3]
    mode = _SAME_MODE.get(mode, mode)
    if mode in _MODES:
        rest = match[4]
    else:  # no mode, but the first of the words after the tonic
        mode, rest = "", match[3] + match[4]
    key = _with_words(Key(match[1] + match[2], mode), rest.split())
    return key if key is not None and abs(key.fifths) <= 7 else None


def _with_words(key: Key, words: list[str]) -> Key | None:
    explicit, accidentals, sounding = False, [], []
    for word in words:
        altered = _ALTERED.findall(word)
        if altered and "".join(a + b for a, b in altered) == word:
            accidentals += [accidental + letter.lower() for accidental, letter in altered]
        elif word == "exp":
            explicit = True
        elif _SOUNDING.fullmatch(word):
            sounding.append(word)
        elif not _LOOKS.fullmatch(word):
            return None
    if len(accidentals) > 7 or len(sounding) > 2:
        return None
    return Key(key.tonic, key.mode, explicit, tuple(accidentals), tuple(sounding))

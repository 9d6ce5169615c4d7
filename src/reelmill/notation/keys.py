"""Keys (K:), ABC 2.1 section 3.1.14: tonic, mode, accidentals, and the signature that follows from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
_QUOTED = re.compile(r'"[^"]*"?')
_NUMBERED = re.compile(r"(octave|transpose|t)=([+-]?\d{1,2})")
_CLEF = re.compile(
    r"(?:clef=)?(?:(?:treble|bass|alto|tenor|baritone|soprano|mezzosoprano|perc|none)\d?|[GFC]\d?)"
    r"(?:([+-])8|[\^_]8)?|clef=\S*",
    re.IGNORECASE,
)
_ONLY_WORDS = re.compile(r"exp$|[a-z]+=|[\^_=]")


@dataclass(frozen=True)
class Key:
    """A key. ``tonic`` is ``F#``, ``Bb`` …, or ``none`` or ``HP`` (Highland pipes), which have no mode.

    ``mode`` is empty (major), ``m``, ``dor``, ``phr``, ``lyd``, ``mix`` or ``loc``. ``accidentals`` (``^f``)
    change the signature; with ``explicit`` they are all there is of it. ``sounding`` keeps ``octave=`` (which
    clefs such as ``treble-8`` are, too) and ``transpose=``.
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
        sounding = (word for word in self.sounding if word != "octave=0")
        return " ".join((self.tonic + self.mode, *explicit, *self.accidentals, *sounding))

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

    @property
    def tonic_class(self) -> int | None:
        """The pitch class of the tonic, 0 for C; None where the key has none."""
        if self.tonic in ("none", "HP"):
            return None
        return (SEMITONES[self.tonic[0]] + self.tonic.count("#") - self.tonic.count("b")) % 12

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

    Long names are understood (``E Minor``, ``Ddorian``). What only changes the look (clefs) is left out, and
    so are words that mean nothing. As in ABC 2.1, capitals of the mode do not matter, so ``EM`` is E minor.
    A value that names no key (``clef=bass``: see ``names_key``) is that of no key.
    """
    words = _QUOTED.sub(" ", value).split()
    if not names_key(value):
        return _with_words(NO_KEY, words)
    if words[0].lower() == "none":
        return _with_words(NO_KEY, words[1:])
    if words[0] in ("HP", "Hp"):
        return _with_words(Key("HP"), words[1:])
    match = _KEY.fullmatch(" ".join(words))
    if not match:
        return None
    attached = _KEY.fullmatch(words[0])
    mode = match[3].lower()[:3]
    mode = _SAME_MODE.get(mode, mode)
    if mode in _MODES:
        rest = match[4]
    elif attached and attached[3]:
        return None  # no mode, but no word of its own either
    else:
        mode, rest = "", match[3] + match[4]
    key = _with_words(Key(match[1] + match[2], mode), rest.split())
    return key if key is not None and abs(key.fifths) <= 7 else None


def names_key(value: str) -> bool:
    """Whether the value of a K: field names a key, or else only a clef, accidentals or the like."""
    words = _QUOTED.sub(" ", value).split()
    if not words or words[0].lower() == "none":
        return bool(words)
    return not (_ONLY_WORDS.match(words[0]) or (_CLEF.fullmatch(words[0]) and len(words[0]) > 2))


def sounding_words(words: Iterable[str]) -> tuple[str, ...]:
    """The words of a K: or V: field that move the notes: ``octave=-1``, ``transpose=2``, in this order.

    A clef of an octave lower (``treble-8``, ``clef=bass-8``) is ``octave=-1``, another clef ``octave=0``
    (ABC 2.1 section 4.6). An ``octave=`` of its own wins over the clef's.
    """
    moved: dict[str, int] = {}
    for word in words:
        number = _NUMBERED.fullmatch(word)
        clef = _CLEF.fullmatch(word)
        if number:
            moved["octave" if number[1] == "octave" else "transpose"] = int(number[2])
        elif clef and (len(word) > 2 or clef[1]):
            moved.setdefault("octave", {"+": 1, "-": -1}.get(clef[1] or "", 0))
    return tuple(f"{name}={moved[name]}" for name in ("octave", "transpose") if name in moved)


def _with_words(key: Key, words: list[str]) -> Key | None:
    explicit, accidentals = False, []
    for word in words:
        altered = _ALTERED.findall(word)
        if altered and "".join(a + b for a, b in altered) == word:
            accidentals += [accidental + letter.lower() for accidental, letter in altered]
        elif word == "exp":
            explicit = True
    if len(accidentals) > 7:
        return None
    return Key(key.tonic, key.mode, explicit, tuple(accidentals), sounding_words(words))

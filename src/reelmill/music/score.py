"""A tune read once, as music: pitches, lengths, bars and the signs between them, of its first voice.

``form``, ``figures`` and ``similarity`` ask nothing of the text itself, so a tune is parsed
once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from reelmill.notation.keys import NO_KEY, Key, names_key, parse_key
from reelmill.notation.meter import FREE, Meter, parse_meter, parse_unit
from reelmill.notation.pitches import Accidentals
from reelmill.notation.rhythm import Stopwatch
from reelmill.notation.tokens import Kind, Piece, Token, read

TICKS = 1920  # a whole note: exact for triplets and quintuplets down to the 128th note
REST = -1  # in the place of a pitch

# Read once: the members of an enumeration are looked up slowly.
_NOTE, _REST, _CHORD_OPEN, _CHORD_CLOSE = Kind.NOTE, Kind.REST, Kind.CHORD_OPEN, Kind.CHORD_CLOSE
_GRACE_OPEN, _GRACE_CLOSE, _TIE, _BAR = Kind.GRACE_OPEN, Kind.GRACE_CLOSE, Kind.TIE, Kind.BAR
_ENDING, _NUMBER, _OVERLAY, _SPACE = Kind.ENDING, Kind.NUMBER, Kind.OVERLAY, Kind.SPACE


@dataclass(slots=True)
class Bar:
    """A bar as it stands between two bar lines.

    ``sign`` is all that stands between the bar before and this one (``|``, ``:|``, ``|] |:``), ``ending`` the
    number of the ending that begins here (``1``, ``2``, ``1,3``), if any.
    """

    pitches: list[int]  # MIDI, of a chord its highest, or REST
    lengths: list[int]  # ticks
    lasts: Fraction  # whole notes
    full: Fraction | None  # whole notes of a full bar, None in free meter
    sign: str
    ending: str

    @property
    def short(self) -> bool:
        """Whether it lasts less than a full bar: a pickup, or the bar that a pickup completes."""
        return self.full is not None and self.lasts < self.full


@dataclass(slots=True)
class Score:
    """The bars of a tune's first voice. ``closing`` is the sign behind the last bar.

    ``pitches`` and ``lengths`` (ticks) are those of its notes in order, rests left out and tied notes one.
    """

    key: Key
    meter: Meter | None  # None: none is given, or what is given is none
    bars: list[Bar] = field(default_factory=list)
    closing: str = ""
    pitches: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def read_score(abc: str) -> Score:
    """The tune in ``abc``. Whatever cannot be read is left out: a model can write anything."""
    tune = read(abc)
    values = dict(tune.fields)
    meter = parse_meter(values["M"]) if values.get("M") else None
    score = Score(parse_key(values.get("K", "")) or NO_KEY, meter)
    unit = parse_unit(values.get("L", "")) or (meter or FREE).default_unit
    reader = _Reader(score, Stopwatch(unit, meter or FREE))
    for pieces in tune.pieces:
        reader.take_line(pieces)
    reader.end_bar("")
    score.closing = reader.sign
    return score


def read_any(text: str) -> Score:
    """``read_score`` of what a model has written, which may be no tune at all: then one without bars."""
    try:
        return read_score(text)
    except (ValueError, ArithmeticError, LookupError, RecursionError):
        return Score(NO_KEY, None)


class _Reader:
    """Reads one line after another into ``score``."""

    def __init__(self, score: Score, watch: Stopwatch) -> None:
        self.sign = ""
        self._score, self._watch = score, watch
        self._accidentals = Accidentals(score.key)
        self._pitches: list[int] = []  # of this bar
        self._ties: set[int] = set()  # those of them that are tied to the one before
        self._chord: list[int] | None = None
        self._in_grace = self._tied = False
        self._lengths: list[Fraction | int] | None = (
            None  # of the voice that counts, once another lies over it
        )
        self._ending = ""
        self._voice: str | None = None
        self._elsewhere = False  # in another voice

    def take_line(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, tuple):
                self._take_field(*piece)
            elif not self._elsewhere:
                self._take(piece)
        if self._watch.lasted == self._watch.meter.bar:
            self.end_bar("")

    def end_bar(self, sign: str) -> None:
        watch = self._watch
        lasted = watch.lasted
        if lasted:
            lengths = watch.lengths if self._lengths is None else self._lengths
            scale = float(TICKS * watch.unit)
            ticks = [round(float(length) * scale) for length in lengths]
            self._add_notes(ticks)
            bar = Bar(self._pitches, ticks, lasted, watch.meter.bar, self.sign, self._ending)
            self._score.bars.append(bar)
            self.sign, self._ending = "", ""
            self._pitches, self._ties, self._lengths = [], set(), None
        self.sign = f"{self.sign} {sign}".strip()
        watch.restart()
        self._accidentals.new_bar()

    def _add_notes(self, ticks: list[int]) -> None:
        pitches, lengths = self._score.pitches, self._score.lengths
        for place, (pitch, length) in enumerate(zip(self._pitches, ticks, strict=False)):
            if place in self._ties and pitches and pitches[-1] == pitch:
                lengths[-1] += length
            elif pitch != REST:
                pitches.append(pitch)
                lengths.append(length)

    def _take_field(self, name: str, value: str) -> None:
        if name == "V":
            voice = (value.split(maxsplit=1) or [""])[0]
            if self._voice is None:
                self._voice = voice
            self._elsewhere = voice != self._voice
        elif self._elsewhere:
            return
        elif name == "K" and names_key(value):
            self._accidentals.key = parse_key(value) or self._accidentals.key
        elif name == "L":
            self._watch.unit = parse_unit(value) or self._watch.unit
        elif name == "M":
            self._watch.meter = parse_meter(value) or self._watch.meter

    def _take(self, token: Token) -> None:
        kind = token.kind
        if kind is _SPACE:
            return
        if kind is _BAR:
            self.end_bar(token.text)
            return
        if kind is _ENDING or kind is _NUMBER:
            self.end_bar("")
            self._ending = token.text.lstrip("[")
            return
        if kind is _OVERLAY and self._lengths is None:
            self._lengths = self._watch.lengths
        self._watch.take(token)
        if kind is _GRACE_OPEN:
            self._in_grace = True
        elif kind is _GRACE_CLOSE:
            self._in_grace = False
        elif self._in_grace or self._lengths is not None:
            return
        elif kind is _NOTE:
            pitch = self._accidentals.pitch(token.text)
            if self._chord is None:
                self._sound(pitch)
            else:
                self._chord.append(pitch)
        elif kind is _REST:
            if self._chord is None:
                self._sound(REST)
        elif kind is _CHORD_OPEN:
            self._chord = []
        elif kind is _CHORD_CLOSE:
            self._sound(max(self._chord or [REST]))
            self._chord = None
        elif kind is _TIE:
            self._tied = True

    def _sound(self, pitch: int) -> None:
        if self._tied:
            self._ties.add(len(self._pitches))
        self._pitches.append(pitch)
        self._tied = False

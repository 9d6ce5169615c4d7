"""How long notes last: tuplets, broken rhythm, chords (ABC 2.1 sections 4.3, 4.4, 4.13 and 4.17)."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from reelmill.notation.meter import Meter
from reelmill.notation.tokens import Kind, Token, length_factor, note_parts

# Read once: the members of an enumeration are looked up slowly, and ``take`` is called for every token.
_NOTE, _REST, _CHORD_OPEN, _CHORD_CLOSE = Kind.NOTE, Kind.REST, Kind.CHORD_OPEN, Kind.CHORD_CLOSE
_GRACE_OPEN, _GRACE_CLOSE, _TUPLET, _BROKEN, _OVERLAY, _SPACE = (
    Kind.GRACE_OPEN, Kind.GRACE_CLOSE, Kind.TUPLET, Kind.BROKEN, Kind.OVERLAY, Kind.SPACE,
)  # fmt: skip
_ZERO, _ONE = Fraction(0), Fraction(1)
_IN_THE_TIME_OF = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # the q of (p; for 5, 7 and 9 it depends on the meter


class Stopwatch:
    """Adds up what the tokens between two bar lines last. ``meter`` may be set at any time.

    ``lengths`` has the length of each note, rest and chord of the bar, in unit note lengths.
    """

    def __init__(self, unit: Fraction, meter: Meter) -> None:
        self.meter = meter
        self._unit = unit
        self._whole: dict[Fraction | int, Fraction] = {}  # whole notes that so many units last
        self.restart()

    def restart(self) -> None:
        """Begin a new bar."""
        self.lengths: list[Fraction | int] = []
        self._longest = _ZERO  # whole notes, of the voices overlaid so far
        self._before: Fraction | int = 0  # whole notes, before the unit note length changed
        # From here on in unit note lengths.
        self._units: Fraction | int = 0
        self._previous: Fraction | int = 0  # what the last note lasts; in ``_units`` already
        self._previous_written: Fraction | int = 0
        self._broken = ""
        self._tuplet_factor, self._tuplet_left = _ONE, 0
        self._chord: Fraction | int = 0
        self._within_chord = self._grace = False

    @property
    def unit(self) -> Fraction:
        """The unit note length in whole notes; it may be set at any time."""
        return self._unit

    @unit.setter
    def unit(self, unit: Fraction) -> None:
        self._before += self._units * self._unit
        self.lengths = [length * self._unit / unit for length in self.lengths]
        self._units = self._previous = self._previous_written = 0
        self._unit = unit
        self._whole = {}

    @property
    def lasted(self) -> Fraction:
        """Whole notes that the tokens since ``restart`` last; of overlaid voices, the longest."""
        if not self._units and not self._before:
            return self._longest
        lasted = self._whole.get(self._units)
        if lasted is None:
            lasted = self._whole[self._units] = self._units * self._unit
        if self._before:
            lasted += self._before
        return max(self._longest, lasted) if self._longest else lasted

    def take(self, token: Token) -> None:
        """Add what ``token``, the next of the bar, lasts."""
        kind = token.kind
        if kind is _SPACE:
            return
        if kind is _NOTE or kind is _REST:
            if self._grace:
                return
            length = _note_length(token.text) if kind is _NOTE else self._rest_length(token.text)
            if self._within_chord:
                self._chord = self._chord or length  # a chord lasts as long as its first note
            elif self._tuplet_left or self._broken:
                self._sound(length)
            else:
                self._units += length
                self.lengths.append(length)
                self._previous = self._previous_written = length
        elif kind is _CHORD_OPEN:
            self._within_chord, self._chord = True, 0
        elif kind is _CHORD_CLOSE:
            self._within_chord = False
            if not self._grace:
                self._sound(self._chord * length_factor(token.text[1:]))
        elif kind is _GRACE_OPEN:
            self._grace = True
        elif kind is _GRACE_CLOSE:
            self._grace = False
        elif kind is _TUPLET:
            self._start_tuplet(token.text)
        elif kind is _BROKEN:
            self._broken = token.text
        elif kind is _OVERLAY:
            longest = self.lasted
            self.restart()
            self._longest = longest

    def _rest_length(self, text: str) -> Fraction | int:
        if text[0] in "ZX":  # whole bars of rest: however many, they count as one right bar
            return (self.meter.bar or 0) / self._unit
        return length_factor(text[1:])

    def _sound(self, written: Fraction | int) -> None:
        length = written
        if self._tuplet_left:
            length = length * self._tuplet_factor
            self._tuplet_left -= 1
        if self._broken and written == self._previous_written:  # between unequal notes it means nothing
            shorter = Fraction(1, 2 ** len(self._broken))
            first, second = (2 - shorter, shorter) if self._broken[0] == ">" else (shorter, 2 - shorter)
            self._units += self._previous * (first - 1)
            if self.lengths:
                self.lengths[-1] = self._previous * first
            length = length * second
        self._units += length
        self.lengths.append(length)
        self._previous, self._previous_written, self._broken = length, written, ""

    def _start_tuplet(self, text: str) -> None:
        numbers = [int(number or 0) for number in text[1:].split(":")] + [0, 0]
        notes = numbers[0]
        time = numbers[1] or _IN_THE_TIME_OF.get(notes) or (3 if self.meter.compound else 2)
        self._tuplet_factor, self._tuplet_left = Fraction(time, notes), numbers[2] or notes


@lru_cache(maxsize=1 << 14)
def _note_length(text: str) -> Fraction | int:
    return length_factor(note_parts(text)[3])

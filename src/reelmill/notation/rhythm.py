"""How long notes last: tuplets, broken rhythm, chords (ABC 2.1 sections 4.3, 4.4, 4.13 and 4.17)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from reelmill.notation.meter import FREE, Meter
from reelmill.notation.tokens import Kind, Token, length_factor, note_parts

_IN_THE_TIME_OF = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # the q of (p; for 5, 7 and 9 it depends on the meter


@dataclass
class Stopwatch:
    """Adds up what the tokens between two bar lines last. ``unit`` and ``meter`` may be set at any time."""

    unit: Fraction
    meter: Meter = FREE

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new bar."""
        self._lasted = Fraction(0)  # of the notes before the previous one
        self._longest = Fraction(0)  # of the voices overlaid so far
        self._previous = Fraction(0)
        self._previous_written = Fraction(0)
        self._broken = ""
        self._tuplet_factor, self._tuplet_left = Fraction(1), 0
        self._chord: Fraction | None = None
        self._within = ""

    @property
    def lasted(self) -> Fraction:
        """Whole notes that the tokens since ``restart`` last; of overlaid voices, the longest."""
        return max(self._longest, self._lasted + self._previous)

    def take(self, tokens: Iterable[Token]) -> None:
        """Add what ``tokens`` of one bar last."""
        for token in tokens:
            self._take(token)

    def _take(self, token: Token) -> None:
        kind = token.kind
        if kind in (Kind.GRACE_OPEN, Kind.GRACE_CLOSE):
            self._within = "grace" if kind == Kind.GRACE_OPEN else ""
        elif self._within == "grace":
            return
        elif kind == Kind.CHORD_OPEN:
            self._within, self._chord = "chord", None
        elif kind == Kind.CHORD_CLOSE:
            self._within = ""
            self._sound((self._chord or Fraction(0)) * length_factor(token.text[1:]))
        elif kind in (Kind.NOTE, Kind.REST):
            length = self._written_length(token)
            if self._within != "chord":
                self._sound(length)
            elif self._chord is None:  # a chord lasts as long as its first note
                self._chord = length
        elif kind == Kind.TUPLET:
            self._start_tuplet(token.text)
        elif kind == Kind.BROKEN:
            self._broken = token.text
        elif kind == Kind.OVERLAY:
            longest = self.lasted
            self.restart()
            self._longest = longest

    def _written_length(self, token: Token) -> Fraction:
        if token.kind == Kind.NOTE:
            return self.unit * length_factor(note_parts(token.text)[3])
        if token.text[0] in "ZX":  # whole bars of rest: however many, they count as one right bar
            return self.meter.bar or Fraction(0)
        return self.unit * length_factor(token.text[1:])

    def _sound(self, written: Fraction) -> None:
        length = written
        if self._tuplet_left:
            length *= self._tuplet_factor
            self._tuplet_left -= 1
        self._lasted += self._previous
        if self._broken and written == self._previous_written:  # between unequal notes it means nothing
            shorter = Fraction(1, 2 ** len(self._broken))
            dotted, short = 2 - shorter, shorter
            first, second = (dotted, short) if self._broken[0] == ">" else (short, dotted)
            self._lasted += self._previous * (first - 1)
            length *= second
        self._previous, self._previous_written, self._broken = length, written, ""

    def _start_tuplet(self, text: str) -> None:
        numbers = [int(number or 0) for number in text[1:].split(":")] + [0, 0]
        notes = numbers[0]
        time = numbers[1] or _IN_THE_TIME_OF.get(notes) or (3 if self.meter.compound else 2)
        self._tuplet_factor, self._tuplet_left = Fraction(time, notes), numbers[2] or notes

"""Whether every bar of a tune lasts what its meter says: the ``bars`` tier.

A bar may be short where music commonly is: at the start and the end of the tune, beside repeats, double bars
and endings (a pickup and the bar it completes), and where two short bars in a row make up one bar. No bar may
be long. Where a line ends in a full bar, its end closes the bar: people leave out that bar line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from reelmill.notation.meter import Meter, parse_meter, parse_unit
from reelmill.notation.rhythm import Stopwatch
from reelmill.notation.tokens import Kind, Token, read

# Read once: the members of an enumeration are looked up slowly.
_BAR, _ENDS_BAR = Kind.BAR, (Kind.BAR, Kind.ENDING, Kind.NUMBER)
_SOUNDING = (Kind.NOTE, Kind.REST, Kind.CHORD_OPEN, Kind.CHORD_CLOSE)


@dataclass
class Bar:
    """A bar of one voice. An edge is where a part of the tune begins or ends: a repeat, a double bar …"""

    lasts: Fraction  # whole notes
    meter: Meter
    after_edge: bool
    before_edge: bool = False
    pieces: tuple[int, int] = (0, 0)  # its first one and the one after its last, of all of the body
    missing: Fraction | int = field(init=False)  # whole notes; negative in a long bar, 0 in free meter

    def __post_init__(self) -> None:
        full = self.meter.bar
        # Most bars are full, and 0 is compared faster than a fraction.
        self.missing = 0 if full is None or full == self.lasts else full - self.lasts


@dataclass
class _Voice:
    watch: Stopwatch
    bars: list[Bar] = field(default_factory=list)
    edge: bool = True  # whether the bar being read follows an edge
    next_meter: Meter | None = None
    begin: int = 0  # the first piece of the bar being read

    def end_bar(self, edge: bool, at: int) -> None:
        lasted = self.watch.lasted
        if lasted:
            self.bars.append(Bar(lasted, self.watch.meter, self.edge, edge, (self.begin, at)))
            self.edge = edge
        else:
            self.edge = self.edge or edge
            if self.bars:
                self.bars[-1].before_edge |= edge
        self.begin = at
        self.watch.restart()
        if self.next_meter:
            self.watch.meter, self.next_meter = self.next_meter, None

    def end_line(self, at: int) -> None:
        """Close the bar if it is full."""
        if self.watch.lasted == self.watch.meter.bar:
            self.end_bar(False, at)

    def change(self, name: str, value: str) -> None:
        unit, meter = parse_unit(value), parse_meter(value)
        if name == "L" and unit:
            self.watch.unit = unit
        elif name == "M" and meter:
            if self.watch.lasted:
                self.next_meter = meter
            else:
                self.watch.meter = meter


def bars_problem(abc: str) -> str:
    """Empty if every bar of the tune in ``abc`` lasts what its meter says, pickups and endings allowed.

    Else the reason: ``"bar 3 lasts 5/8 of 6/8"``, ``"no meter"``, ``"unknown meter"``, ``"no full bar"``.
    Bar 1 is the first after a pickup, counted as written. With ``M:none`` there is nothing to complain of.
    """
    fields = dict(read(abc).fields)
    if not fields.get("M"):
        return "no meter"
    meter = parse_meter(fields["M"])
    if meter is None:
        return "unknown meter"
    voices = read_bars(abc, meter)
    _, problem = next((wrong for bars in voices for wrong in _problems(bars)), (None, ""))
    if not problem and not any(bar.missing == 0 for bars in voices for bar in bars):
        return "no full bar"
    return problem


def wrong_bar(abc: str) -> tuple[int, int] | None:
    """Where in ``abc`` the first bar stands that is too long or too short, from its first note to its end.

    None if there is none.
    """
    tune = read(abc)
    meter = parse_meter(dict(tune.fields).get("M", ""))
    if meter is None:
        return None
    wrong = next((bar for bars in read_bars(abc, meter) for bar, _ in _problems(bars)), None)
    if wrong is None:
        return None
    every = [piece for line in tune.pieces for piece in line]
    bar = list(zip(every, tune.places(), strict=True))[slice(*wrong.pieces)]
    sounding = [place for found, place in bar if isinstance(found, Token) and found.kind in _SOUNDING]
    starts = _line_starts(abc, tune.lines)
    (first, begin, _), (last, _, end) = sounding[0], sounding[-1]
    return starts[first] + begin, starts[last] + end


def _line_starts(abc: str, body: list[str]) -> list[int]:
    """Where each line of a tune's ``body`` begins in ``abc``, which has a header, and comments, too."""
    starts = [0] * len(body)
    key = re.search(r"^\s*K:.*", abc, re.MULTILINE)
    place = key.end() if key else 0
    for number, line in enumerate(body):
        starts[number] = abc.index(line, place)
        place = starts[number] + len(line)
    return starts


def read_bars(abc: str, meter: Meter) -> list[list[Bar]]:
    """The bars of each voice of the tune in ``abc``, in the order of the voices' first notes."""
    tune = read(abc)
    unit = parse_unit(dict(tune.fields).get("L", "")) or meter.default_unit
    voices: dict[str, _Voice] = {}
    current = _Voice(Stopwatch(unit, meter))
    at = 0
    for line in tune.pieces:
        for found in line:
            if isinstance(found, Token):
                kind = found.kind
                if kind in _ENDS_BAR:
                    current.end_bar(kind is not _BAR or found.text not in ("|", ".|"), at)
                else:
                    current.watch.take(found)
            elif found[0] == "V":
                name = found[1].split(maxsplit=1)[0] if found[1].split() else ""
                current = voices.setdefault(name, _Voice(Stopwatch(unit, meter)))
            else:
                current.change(*found)
            if not voices:
                voices[""] = current
            at += 1
        current.end_line(at)
    for voice in voices.values():
        voice.end_bar(True, at)
    return [voice.bars for voice in voices.values() if voice.bars]


def _problems(bars: list[Bar]) -> Iterator[tuple[Bar, str]]:
    first = 0 if bars and bars[0].missing > 0 else 1
    made_up = {
        index + offset
        for index, (bar, following) in enumerate(pairwise(bars))
        if bar.missing > 0 and following.missing > 0 and bar.meter.bar == bar.lasts + following.lasts
        for offset in (0, 1)
    }
    for index, bar in enumerate(bars):
        allowed = bar.after_edge or bar.before_edge or index in made_up
        if bar.missing < 0 or (bar.missing > 0 and not allowed):
            yield bar, f"bar {first + index} lasts {_beats(bar)} of {bar.meter.text}"


def _beats(bar: Bar) -> str:
    unit = {"C": 4, "C|": 2}.get(bar.meter.text) or int(bar.meter.text.rpartition("/")[2])
    beats = bar.lasts * unit
    return f"{beats}/{unit}" if beats.denominator == 1 else str(bar.lasts)

"""The sections of a tune, and whether they are those of the tradition: the ``form`` tier.

A section begins and ends at repeat signs, double bars and the end of the tune. Its bars are counted as
dancers count them: a pickup is none, two short bars that make up one are one, and of endings, which are
alternatives, the first counts. A second ending that no sign closes is as long as the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from reelmill.music.score import Bar, Score, read_score

_PHRASE = 4  # bars
_ALIKE = Fraction(3, 4)  # of the first half of two sections is equal: one is a variation of the other


@dataclass
class Section:
    """``bars``: its bars with its first ending; ``endings``: those of its later ones."""

    bars: list[Bar] = field(default_factory=list)
    endings: list[Bar] = field(default_factory=list)
    repeated: bool = False
    ending: int = 0  # how many of its bars are its first ending's

    @property
    def length(self) -> int:
        """Bars, as dancers count them."""
        return sum(1 for _ in whole_bars(self.bars))


def form_problem(abc: str) -> str:
    """Empty if the tune in ``abc`` has at least two sections, each of a multiple of four bars.

    Else the reason: ``"one section"``, ``"section 2 has 9 bars"``, ``"no meter"``, ``"free meter"``.
    """
    score = read_score(abc)
    if score.meter is None:
        return "no meter"
    return wrong_form(score, read_sections(score))


def wrong_form(score: Score, sections: list[Section]) -> str:
    """The same of a tune that has been read."""
    if any(bar.full is None for bar in score.bars):
        return "free meter"
    if len(sections) < 2:
        return "one section" if sections else "no section"
    for number, section in enumerate(sections, 1):
        length = section.length
        if length % _PHRASE or not length:
            return f"section {number} has {length} bar{'' if length == 1 else 's'}"
    return ""


def read_sections(score: Score) -> list[Section]:
    """The sections of a tune, in order. A pickup between two signs belongs to the section it leads to."""
    sections: list[Section] = []
    section = Section()
    in_later = False  # in an ending after the first
    for bar in score.bars:
        begins_later = bar.ending[:1].isdecimal() and bar.ending[0] != "1"
        complete = in_later and len(section.endings) >= section.ending > 0
        if not begins_later and (_ends(bar.sign) or complete):
            section.repeated |= _closes_repeat(bar.sign)
            if section.length:
                sections.append(section)
                section = Section()
            in_later = False
        if begins_later:
            section.repeated = in_later = True
        (section.endings if in_later else section.bars).append(bar)
        section.ending += not in_later and (bar.ending[:1] == "1" or section.ending > 0)
    section.repeated |= _closes_repeat(score.closing)
    return [*sections, section] if section.length else sections


def whole_bars(bars: list[Bar]) -> Iterator[Bar]:
    """The bars of a section without its pickup. Of two short ones that make up one bar, with the pickup or
    without, the first.
    """
    pickup = bars[0].lasts if bars and bars[0].short else Fraction(0)
    lacks = Fraction(0)  # what the short bar before lacks
    for bar in bars[1:] if pickup else bars:
        if lacks and bar.short and bar.lasts in (lacks, lacks - pickup):
            lacks = Fraction(0)
            continue
        lacks = bar.full - bar.lasts if bar.full is not None and bar.short else Fraction(0)
        yield bar


def letters(sections: list[Section]) -> str:
    """The form as letters, repeats written out: ``AABB``. A section that begins as an earlier one of
    its length has its letter.
    """
    seen: list[list[tuple[int, ...]]] = []
    form = ""
    for section in sections:
        bars = [bar_content(bar) for bar in whole_bars(section.bars)]
        number = next((index for index, other in enumerate(seen) if _alike(bars, other)), len(seen))
        if number == len(seen):
            seen.append(bars)
        form += (chr(ord("A") + number) if number < 26 else "…") * (2 if section.repeated else 1)
    return form


def bar_content(bar: Bar) -> tuple[int, ...]:
    """What is played in a bar: equal bars have equal contents."""
    return (*bar.pitches, *bar.lengths)


def _ends(sign: str) -> bool:
    """Whether a section ends at a sign between two bars."""
    return any(mark in sign for mark in (":", "||", "|]", "[|"))


def _closes_repeat(sign: str) -> bool:
    return any(mark.startswith(":") for mark in sign.split())


def _alike(bars: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> bool:
    """Whether two sections begin alike. Ends say nothing: second parts often close as first ones do."""
    half = bars[: (len(bars) + 1) // 2]
    equal = sum(one == other for one, other in zip(half, others, strict=False))
    return len(bars) == len(others) and equal >= _ALIKE * len(half)

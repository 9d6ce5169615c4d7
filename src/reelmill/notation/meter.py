"""Meters (M:) and unit note lengths (L:), ABC 2.1 sections 3.1.6 and 3.1.7."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_METER = re.compile(r"(\()?(\d{1,2}(?:\+\d{1,2}){0,7})(?(1)\))/(\d{1,2})")
_UNIT = re.compile(r"(\d{1,2})(?:/(\d{1,3}))?")


@dataclass(frozen=True)
class Meter:
    """``text`` as canonical ABC has it; ``bar``: whole notes a full bar lasts, None in free meter."""

    text: str
    bar: Fraction | None
    compound: bool

    @property
    def default_unit(self) -> Fraction:
        """The unit note length where no L: says otherwise: 1/16 for bars shorter than 3/4, else 1/8."""
        return Fraction(1, 16) if self.bar is not None and self.bar < Fraction(3, 4) else Fraction(1, 8)


FREE = Meter("none", None, False)


@lru_cache(maxsize=1024)
def parse_meter(value: str) -> Meter | None:
    """The meter in ``value`` (``6/8``, ``C``, ``C|``, ``(2+3)/8``, ``none``); None if it is not one."""
    text = "".join(value.split())
    if text in ("C", "C|"):
        return Meter(text, Fraction(1), False)
    if text.lower() == "none":
        return FREE
    match = _METER.fullmatch(text)
    if not match:
        return None
    beats, unit = sum(map(int, match[2].split("+"))), int(match[3])
    if beats == 0 or not _is_power_of_two(unit):
        return None
    return Meter(text, Fraction(beats, unit), beats % 3 == 0 and beats > 3)


def plain_meter(value: str) -> str:
    """``value`` with numbers for the signs C and C|: 4/4 and 2/2."""
    return {"C": "4/4", "C|": "2/2"}.get(value, value)


@lru_cache(maxsize=1024)
def parse_unit(value: str) -> Fraction | None:
    """The unit note length in ``value`` (``1/8``) in whole notes; None if it is not one."""
    match = _UNIT.fullmatch("".join(value.split()))
    if not match:
        return None
    numerator, denominator = int(match[1]), int(match[2] or 1)
    if numerator == 0 or not _is_power_of_two(denominator):
        return None
    return Fraction(numerator, denominator)


def unit_text(unit: Fraction) -> str:
    """``unit`` as the value of an L: field: ``1/8``, and ``1/1``, for players want the stroke."""
    return f"{unit.numerator}/{unit.denominator}"


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0

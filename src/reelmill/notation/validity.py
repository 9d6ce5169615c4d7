"""Whether a text has what a tune needs to be read at all: the ``headers`` tier."""

from __future__ import annotations

import re

from reelmill.notation.header import body_field, field, split_lines
from reelmill.notation.keys import parse_key
from reelmill.notation.meter import parse_meter, parse_unit
from reelmill.notation.tokens import Kind, read

_BEGUN_NUMBER = re.compile(r"(?:X(?::\s*\d*)?)?")


def headers_problem(abc: str) -> str:
    """Empty if ``abc`` is one tune that starts with X: and a number, whose K: ends the header, and whose body
    has notes.

    Else the reason, a short phrase that is the same for like cases. M: and L: may be missing, not malformed.
    """
    lines = split_lines(abc)
    if not lines[0].startswith("X:"):
        return "no X field first"
    if not lines[0][2:].strip().isdecimal():
        return "an X field without a number"
    if not all(line.strip() for line in lines[:-1]):
        return "a blank line within"
    tune = read(abc)
    names = [name for name, _ in tune.fields]
    if "K" not in names:
        return "no K field"
    if names.count("X") > 1 or any((body_field(line) or " ")[0] == "X" for line in tune.lines):
        return "a second X field"
    values = dict(tune.fields)
    if parse_key(values["K"]) is None:
        return "unknown key"
    if values.get("M") and parse_meter(values["M"]) is None:
        return "malformed meter"
    if values.get("L") and parse_unit(values["L"]) is None:
        return "malformed unit note length"
    if not any(token.kind is Kind.NOTE for line in tune.tokens for token in line):
        return "no notes"
    return ""


def opening_problem(text: str) -> str:
    """Why no tune that begins with ``text`` can pass ``headers_problem``; empty if one can.

    The last line is not looked at, for it may go on, unless it is the only one.
    """
    *whole, last = split_lines(text)
    if not whole:
        return "" if _BEGUN_NUMBER.fullmatch(last) else "no X field first"
    key = [] if any((field(line) or " ")[0] == "K" for line in whole) else ["K:C"]
    return headers_problem("\n".join([*whole, *key, "C"]))


def numbered(abc: str, number: int) -> str:
    """Return a tune with ``number`` in its X: line, whatever stands there; as it is if it has none first."""
    first, rest = abc.partition("\n")[::2]
    return f"X:{number}\n{rest}" if first.startswith("X:") and "\n" in abc else abc

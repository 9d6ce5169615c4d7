"""The lines of a tune: its header fields and its body, ABC 2.1 section 2.2."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = re.compile(r"\r\n|\r|\n")
_FIELD = re.compile(r"([A-Za-z+]):(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)%")
_MARK = "\ufeff"  # of the byte order, which joining files leaves in the middle


def split_lines(text: str) -> list[str]:
    """Lines without their ends. Unlike ``str.splitlines``, only CR, LF and CRLF end a line."""
    return _LINE_END.split(text)


def strip_comment(line: str) -> str:
    """``line`` without an ABC comment (from an unescaped ``%`` on) and without spaces at its end."""
    return (_COMMENT.split(line, maxsplit=1)[0] if "%" in line else line).rstrip()


def field(line: str) -> tuple[str, str] | None:
    """(name, value) if ``line`` is an information field such as ``M:6/8``, else None."""
    match = _FIELD.fullmatch(line.lstrip())
    return (match[1], match[2].strip()) if match else None


def body_field(line: str) -> tuple[str, str] | None:
    """Like ``field``, for a line of a tune's body, where ``G:|`` and ``A::B`` are music."""
    return None if line.lstrip()[1:3] in (":|", "::", ":]") else field(line)


def starts_tune(line: str) -> bool:
    """Whether ``line`` is an X: field (and not ``X:|``, rests before a repeat).

    A byte-order mark before it does not matter.
    """
    line = line.lstrip(_MARK)
    return line.startswith("X:") and body_field(line) is not None


def tune_lines(abc: str) -> Iterator[str]:
    """The lines of the one tune in ``abc`` without comments, ``%%`` directives and what comes before X:.

    Ends at the first blank line after the tune began (ABC 2.1, section 2.2.1). Without an X: the tune begins
    at the first line that is not blank.
    """
    lines = split_lines(abc)
    first = next((index for index, line in enumerate(lines) if starts_tune(line)), 0)
    begun, typeset = False, ""
    if lines[first].startswith(_MARK):
        lines[first] = lines[first].lstrip(_MARK)
    for line in lines[first:]:
        directive = line[2:].split(maxsplit=1) if line.startswith("%%") else []
        if typeset:
            typeset = "" if directive[:1] == [typeset] else typeset
        elif directive and directive[0] in ("begintext", "beginps", "beginsvg"):
            typeset = directive[0].replace("begin", "end")
        elif line.strip():
            begun = True
            if not line.lstrip().startswith("%"):
                yield strip_comment(line)
        elif begun:
            return


def split_tune(abc: str) -> tuple[list[tuple[str, str]], list[str]]:
    """(header fields in order, body lines) of the one tune in ``abc``.

    The header ends with the first K:. Lines of it that are no fields (a wrapped history, say) are left out.
    """
    fields: list[tuple[str, str]] = []
    lines = tune_lines(abc)
    for line in lines:
        found = field(line)
        if found:
            fields.append(found)
            if found[0] == "K":
                break
    return fields, list(lines)


def header(abc: str) -> dict[str, str]:
    """The first value of each header field: ``{"X": "1", "T": "The Kesh", "M": "6/8", "K": "G"}``."""
    values: dict[str, str] = {}
    for name, value in split_tune(abc)[0]:
        values.setdefault(name, value)
    return values

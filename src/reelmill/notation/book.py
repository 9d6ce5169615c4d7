"""Tune books: many tunes in one text, ABC 2.1 section 2.2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reelmill.notation.header import body_field, field, split_lines, starts_tune, strip_comment
from reelmill.notation.text import unescaped

_HEADER_FIELDS = "ABCDFGHLMmNORrSUZ"  # those that a file header may have, section 3
_LONGEST = 2_000_000  # characters; of a longer tune only the beginning is kept, to be dropped as too long


def split_book(text: str) -> list[str]:
    """The raw tunes of a book, in order, each ending in one newline; see ``read_tunes``."""
    return list(read_tunes(split_lines(text)))


def read_tunes(lines: Iterable[str]) -> Iterator[str]:
    """The raw tunes in the ``lines`` of a book, in order, each ending in one newline.

    A tune starts at a line with X: and ends before a blank line or the next X:. Free text between tunes is
    left out. The fields of the file header (section 2.2.2: what stands before the first blank line and the
    first tune) go into each tune that does not have them itself, behind its X:. A byte-order mark or ``%abc``
    begins a file, also inside a book that was joined of several. What HTML has escaped is unescaped.
    """
    tune: list[str] = []
    length = 0
    header: list[tuple[str, str]] = []
    in_header = True
    for raw in lines:
        line = unescaped(raw.replace("\x1a", "")).lstrip("\ufeff")  # \x1a: the end of a file, in DOS
        new_file = raw.startswith("\ufeff")
        begins = starts_tune(line)
        if begins or new_file or not line.strip():
            if tune:
                yield _with_header(tune, header)
            tune = []
            in_header = in_header and not begins and not header
        if not tune and (new_file or line.startswith("%abc")):
            header, in_header = [], not begins
        if begins:
            tune, length = [line], len(line)
        elif tune and length <= _LONGEST:
            tune.append(line)
            length += len(line)
        elif in_header and line.strip() and not line.startswith("%"):
            found = field(line)
            if found and found[0] in _HEADER_FIELDS:
                header.append((found[0], strip_comment(line)))
            in_header = bool(found or header)  # else it is free text
    if tune:
        yield _with_header(tune, header)


def _with_header(tune: list[str], header: list[tuple[str, str]]) -> str:
    """The text of ``tune`` with those fields of the file header that it does not set for itself."""
    if header:
        own = _names(tune)
        tune = [tune[0], *(line for name, line in header if name in "Um" or name not in own), *tune[1:]]
    return "\n".join(tune) + "\n"


def _names(tune: list[str]) -> set[str]:
    """The names of the fields in a tune's header."""
    names = set()
    for line in tune:
        found = body_field(line)
        if found:
            names.add(found[0])
            if found[0] == "K":
                break
    return names

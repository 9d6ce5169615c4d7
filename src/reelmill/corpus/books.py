"""``.abc`` files as a stream of raw tunes, however large the file and whatever its encoding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelmill.errors import RequestError
from reelmill.notation.book import split_book

_TUNE_START = re.compile(rb"[\r\n](\xef\xbb\xbf)?X:")
_PIECE = 1 << 20  # bytes read at once
_LONGEST_TUNE = 64 << 20  # bytes; of a longer one only the beginning is kept, to be dropped as too long


@dataclass(frozen=True)
class BookFacts:
    """The SHA-256 (hex) of a book's bytes, and whether a tune begins anywhere in it."""

    sha256: str
    has_tunes: bool


def check_book(path: Path) -> BookFacts:
    """What is known of a tune book by its bytes; RequestError if it cannot be read or is not text."""
    total = hashlib.sha256()
    has_tunes = False
    end = b"\n"  # of the last piece, since a line may begin at a border
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                if b"\0" in piece:
                    raise RequestError(f"{path}: a binary file, not ABC text")
                total.update(piece)
                has_tunes = has_tunes or bool(_TUNE_START.search(end + piece))
                end = piece[-4:]
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    return BookFacts(total.hexdigest(), has_tunes)


def read_book(path: Path) -> Iterator[str]:
    """The raw tunes of a book in order. Each is UTF-8, else Latin-1: old books mix the two."""
    for piece in _pieces(path):
        yield from split_book(_decode(piece))


def _pieces(path: Path) -> Iterator[bytes]:
    """What stands from one line that begins with ``X:`` to the next."""
    lines: list[bytes] = []
    length = 0
    at_line_start = True
    with path.open("rb") as file:
        while line := file.readline(_PIECE):
            if at_line_start and line.startswith(b"X:") and lines:
                yield b"".join(lines)
                lines, length = [], 0
            if length <= _LONGEST_TUNE:
                lines.append(line)
            length += len(line)
            at_line_start = line.endswith(b"\n")
    if lines:
        yield b"".join(lines)


def _decode(piece: bytes) -> str:
    try:
        return piece.decode("utf-8-sig")
    except UnicodeDecodeError:
        return piece.decode("latin-1")

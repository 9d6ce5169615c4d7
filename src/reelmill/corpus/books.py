"""``.abc`` files as a stream of raw tunes, however large the file and whatever its encoding."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reelmill.errors import RequestError
from reelmill.notation.book import read_tunes
from reelmill.notation.header import starts_tune

_TUNE_START = re.compile(rb"[\r\n](?:\xef\xbb\xbf)*X:(?![:|\]])")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_CHARSET = re.compile(rb"(?:%%|I:) *abc-charset[ =]+([\w.:-]+)")
_PIECE = 1 << 20  # bytes read at once
_LONGEST_LINE = 64 << 20  # bytes; of a longer one only the beginning is kept, to be dropped as too long
# Unicode in units of two or four bytes: what a file of it begins with. The longer mark is looked for first.
_WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
        wide = _wide_encoding(path)
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                if b"\0" in piece and not wide:
                    raise RequestError(f"{path}: a binary file, not ABC text")
                total.update(piece)
                has_tunes = has_tunes or bool(_TUNE_START.search(end + piece))
                end = piece[-8:]
        if wide:
            has_tunes = sum(map(starts_tune, _wide_lines(path, wide))) > 0  # to the end: it may break off
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror})") from None
    return BookFacts(total.hexdigest(), has_tunes)


def read_book(path: Path) -> Iterator[str]:
    """The raw tunes of a book in order.

    Each line is UTF-8, else in the character set that a line before it names (``%%abc-charset``, ABC 2.1
    section 2.2.3), else Windows-1252, which has all of Latin-1: old books mix them. UTF-16 and UTF-32 are
    known by their byte-order mark, UTF-16 also by its zeros. RequestError for a file that breaks off in them.
    """
    wide = _wide_encoding(path)
    yield from read_tunes(_wide_lines(path, wide) if wide else _decoded(_lines(path)))


def _wide_encoding(path: Path) -> str:
    """``utf-16…`` or ``utf-32`` if the file is in it, else empty."""
    with path.open("rb") as file:
        start = file.read(8)
    for mark, encoding in _WIDE:
        if start.startswith(mark):
            return encoding
    even, odd = start[::2], start[1::2]  # of the first characters, which are ASCII, one is zeros
    if len(start) == 8 and any(even) != any(odd) and 0 not in (even if any(even) else odd):
        return "utf-16-le" if any(even) else "utf-16-be"
    return ""


def _wide_lines(path: Path, encoding: str) -> Iterator[str]:
    try:
        with path.open(encoding=encoding) as file:
            for line in file:
                yield line.removesuffix("\n")
    except UnicodeError as error:
        raise RequestError(f"{path}: not {encoding.upper()}, as it begins ({error})") from None


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their ends."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if piece.endswith(b"\r"):  # perhaps the half of a line end
                piece += file.read(1)
            first, *lines = _LINE_END.split(piece)
            if len(rest) < _LONGEST_LINE:
                rest += first
            for line in lines:
                yield rest
                rest = line
    yield rest


def _decoded(lines: Iterator[bytes]) -> Iterator[str]:
    charset = "cp1252"
    for line in lines:
        found = _CHARSET.match(line)
        if found:
            charset = _known(found[1].decode("ascii", "replace"))
        for encoding in ("utf-8", charset, "cp1252"):
            try:
                yield line.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
        else:
            yield line.decode("latin-1")


def _known(charset: str) -> str:
    """A character set that Python knows; Windows-1252 for its part Latin-1 and for what is unknown."""
    try:
        name = codecs.lookup(charset).name
        "".encode(name)  # not hex, or another code that is none of characters
    except LookupError:
        return "cp1252"
    return "cp1252" if name == "iso8859-1" else name

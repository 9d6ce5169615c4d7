"""The one way anything lasting reaches disk: write beside, sync, rename, sync the directory.

A file or directory written here is either wholly there under its name or not there at all, whatever is
killed. What is being written bears a name that ``is_temporary`` knows, so that whatever a kill leaves behind
can be told from real files and cleaned.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from reelmill.errors import DamagedError, RequestError

MANIFEST = "manifest.json"
_MARK = ".partial-"
_OWN_FAULTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # of a reader, and no fault of what it reads


class FullDiskError(RequestError):
    """There is no room for ``path``: the same request will do once there is."""

    def __init__(self, path: Path | str, advice: str = "") -> None:
        super().__init__(f"{path}: the disk is full; free some space and run the same command again{advice}")
        self.path, self.advice = path, advice


def temporary(path: Path) -> Path:
    """A fresh name beside ``path`` for what will become it."""
    return path.with_name(f".{path.name}{_MARK}{secrets.token_hex(6)}")


def is_temporary(path: Path) -> bool:
    """Whether ``path`` is something a writer here had not finished."""
    return path.name.startswith(".") and _MARK in path.name


def remove_temporaries(directory: Path, name: str) -> None:
    """Remove what killed writers left in ``directory`` of files named ``name``, whatever their extension."""
    for path in directory.glob(f".{name}.*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` atomically. An existing file stays as it was until the rename."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Put UTF-8 ``text`` at ``path`` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Put ``value`` at ``path`` atomically as indented JSON. NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write a file at; it is synced and renamed to ``path`` if the block ends well."""
    partial = temporary(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        raise_explained(error, path)


@contextlib.contextmanager
def creating_directory(path: Path, facts: dict[str, Any] | None = None) -> Iterator[Path]:
    """A temporary directory to fill; it gets a manifest, is synced and renamed to ``path``.

    ``facts`` are added to the manifest. ``path`` must not exist.
    """
    with filling_directory(path) as partial:
        yield partial
        listing = {
            str(item.relative_to(partial)): {"bytes": item.stat().st_size, "sha256": sha256(item)}
            for item in sorted(partial.rglob("*"))
            if item.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps({**(facts or {}), "files": listing}, indent=2) + "\n")


@contextlib.contextmanager
def filling_directory(path: Path) -> Iterator[Path]:
    """A temporary directory to fill; it is synced and renamed to ``path``, which is new or empty."""
    partial = temporary(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        files = [item for item in partial.rglob("*") if item.is_file()]
        for item in files:
            sync(item)
        for item in sorted({item.parent for item in files} | {partial}, reverse=True):
            sync(item)
        partial.rename(path)
        sync(path.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise_explained(error, path)


@contextlib.contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A temporary directory in ``directory`` for intermediate results; it goes when the block ends."""
    path = temporary(directory / "scratch")
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def verify_directory(path: Path) -> dict[str, Any]:
    """The manifest of ``path`` if every file it lists is there with its size and hash.

    Raises DamagedError naming the first file that is not.
    """
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DamagedError(f"{path / MANIFEST}: lists no files")
    for name, expected in manifest["files"].items():
        if not isinstance(expected, dict) or not {"bytes", "sha256"} <= expected.keys():
            raise DamagedError(f"{path / MANIFEST}: does not say what {name} is")
        verify_file(path / name, expected["bytes"], expected["sha256"])
    return manifest


def verify_file(path: Path, size: int, digest: str) -> None:
    """Raise DamagedError unless ``path`` has ``size`` bytes and the SHA-256 ``digest``."""
    with reading(path):
        seen = path.stat().st_size
        if seen != size:
            raise DamagedError(f"{path}: {seen} bytes, its manifest says {size}")
        if sha256(path) != digest:
            raise DamagedError(f"{path}: its SHA-256 differs from its manifest's")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """While ``path`` is read: that it is missing, or that the disk cannot give it, is a DamagedError."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing") from None
    except OSError as error:
        if error.errno in _OWN_FAULTS:
            raise
        raise DamagedError(f"{path}: cannot be read ({error.strerror})") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; DamagedError if it is missing or not JSON."""
    try:
        with reading(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path}: not readable as JSON ({error})") from None


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def raise_explained(error: BaseException, path: Path) -> NoReturn:
    """Raise a full disk or a read-only place as a RequestError that says so; any other error as it is.

    Only an OSError says what has happened. Libraries that write files themselves make something of their own
    of it: let them write to memory.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise FullDiskError(path) from error
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        raise RequestError(f"{path}: cannot be written ({error.strerror})") from error
    raise error


def digest(*pieces: bytes | memoryview) -> str:
    """The SHA-256, in hex, of ``pieces`` and of where each ends."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()

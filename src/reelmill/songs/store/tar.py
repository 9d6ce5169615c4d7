"""Tar files that are a function of their members alone, written as a stream and hashed on the way.

The format is POSIX ustar: 512-byte headers, every field fixed (mode 0644, owner 0 without a name, time 0), no
extended headers. Names here are nine digits and an extension and members are far below 8 GiB, so ustar has
room for all of it, and every tar program and WebDataset reader knows it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from reelmill import durable
from reelmill.errors import DamagedError

Member = tuple[str, tuple[bytes | memoryview, ...]]  # its name, and its data in pieces
_BLOCK = tarfile.BLOCKSIZE
_MODE = 0o644


class Sink(Protocol):
    """What a tar is written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take all of ``data``."""
        ...


class TarWriter:
    """Writes members to ``file`` in the order they are added; ``bytes`` and ``sha256`` describe the file."""

    def __init__(self, file: Sink) -> None:
        self.bytes = 0
        self._file = file
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of what has been written so far."""
        return self._hash.hexdigest()

    def add(self, name: str, *pieces: bytes | memoryview) -> None:
        """Append one member, whose data are ``pieces`` one after the other."""
        size = sum(map(len, pieces))
        self._write(_header(name, size))
        for piece in pieces:
            self._write(piece)
        self._write(bytes(-size % _BLOCK))

    def close(self) -> None:
        """Write the end mark and fill the last record, as tar programs do. The file stays open."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.bytes % tarfile.RECORDSIZE))

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)


class TarReader:
    """Reads a tar of ours as a stream of (name, data); ``bytes`` and ``sha256`` describe what was read.

    Raises DamagedError at the first block that ``TarWriter`` would not have written.
    """

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self._path = path
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of the file, once every member has been read."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        with durable.reading(self._path), self._path.open("rb") as file:
            yield from self._members(file)

    def _members(self, file: BinaryIO) -> Iterator[tuple[str, bytes]]:
        while True:
            header = self._read(file, _BLOCK)
            if not any(header):
                break
            name, size = self._parse(header)
            data = self._read(file, size)
            if any(self._read(file, -size % _BLOCK)):
                raise DamagedError(f"{self._path}: {name} is not padded with zeros")
            yield name, data
        rest = self._read(file, _BLOCK)
        rest += self._read(file, -self.bytes % tarfile.RECORDSIZE)
        if any(rest) or file.read(1):
            raise DamagedError(f"{self._path}: goes on after its end mark")

    def _parse(self, header: bytes) -> tuple[str, int]:
        name, size = _name_and_size(self._path, header, self.bytes - _BLOCK)
        try:
            written = _header(name, size)
        except ValueError:  # a name that we could not have written
            written = b""
        if header != written:
            raise DamagedError(f"{self._path}: the header of {name!r} is not as it was written")
        return name, size

    def _read(self, file: BinaryIO, size: int) -> bytes:
        data = file.read(size)
        if len(data) != size:
            raise DamagedError(
                f"{self._path}: ends at byte {self.bytes + len(data)}, in the middle of a member"
            )
        self._hash.update(data)
        self.bytes += size
        return data


def read_some(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(name, data) of the members whose name is ``wanted``, seeking past all others; nothing is hashed.

    Raises DamagedError if the file is missing or is no tar.
    """
    with durable.reading(path), path.open("rb") as file:
        while any(header := file.read(_BLOCK)):
            name, size = _name_and_size(path, header, file.tell() - len(header))
            padded = size + -size % _BLOCK
            if wanted(name):
                data = file.read(padded)
                if len(data) < size:
                    raise DamagedError(f"{path}: ends in the middle of {name}")
                yield name, data[:size]
            else:
                file.seek(padded, 1)


def _name_and_size(path: Path, header: bytes, place: int) -> tuple[str, int]:
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        member = None
    if member is None or member.size < 0:  # a header can hold such a number
        raise DamagedError(f"{path}: no tar header at byte {place}")
    return member.name, member.size


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = _MODE
    return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")

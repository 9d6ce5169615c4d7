"""Direct writes leave the very bytes of an ordinary file, whatever the sizes and the file system."""

import os
import random
from pathlib import Path

import pytest

from reelmill.songs.store.direct_io import DirectFile

BUFFER = 4 << 20


@pytest.mark.parametrize(
    "size", [0, 1, 512, 4096, 10240, BUFFER - 1, BUFFER, BUFFER + 512, 3 * BUFFER + 10240]
)
@pytest.mark.parametrize("piece", [511, 100_000, 50_000_000])
def test_the_bytes_are_those_given(tmp_path: Path, size: int, piece: int) -> None:
    data = random.Random(size).randbytes(size)
    with DirectFile(tmp_path / "file") as file:
        for start in range(0, size, piece):
            assert file.write(memoryview(data)[start : start + piece]) == len(data[start : start + piece])
    assert (tmp_path / "file").read_bytes() == data


def test_where_nothing_can_be_written_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that open refuses, as file systems without direct writes do."""
    opened, real = [], os.open

    def refusing(path: object, flags: int, *mode: int) -> int:
        opened.append(flags)
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *mode)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "open", refusing)
    with DirectFile(tmp_path / "file") as file:
        file.write(b"x" * 5000)
    assert len(opened) == 2
    assert (tmp_path / "file").read_bytes() == b"x" * 5000


def test_an_error_in_the_block_is_what_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bug"), DirectFile(tmp_path / "file") as file:
        file.write(b"x")
        raise ValueError("a bug")
    with pytest.raises(RuntimeError, match="shutdown"):
        file.write(b"x" * (BUFFER + 1))


@pytest.mark.parametrize("size", [1, 3 * BUFFER])
def test_what_the_disk_refuses_is_raised(size: int) -> None:
    with pytest.raises(OSError, match="No space left"), DirectFile(Path("/dev/full")) as file:
        file.write(b"x" * size)

"""Files are there wholly or not at all."""

import errno
import os
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.errors import DamagedError, RequestError


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    durable.write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), durable.replacing(path) as partial:
        partial.write_text("half")
        assert durable.is_temporary(partial)
        raise KeyboardInterrupt
    assert durable.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def make(path: Path) -> Path:
    with durable.creating_directory(path, {"step": 3}) as partial:
        (partial / "weights").write_bytes(b"w" * 1000)
        (partial / "sub").mkdir()
        (partial / "sub" / "state").write_bytes(b"s")
    return path


def test_a_directory_appears_with_a_manifest_that_holds(tmp_path: Path) -> None:
    manifest = durable.verify_directory(make(tmp_path / "d"))
    assert manifest["step"] == 3 and set(manifest["files"]) == {"weights", "sub/state"}


def test_a_directory_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), durable.creating_directory(tmp_path / "d") as partial:
        (partial / "a").write_text("x")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_every_damage_is_named(tmp_path: Path, damage: str) -> None:
    weights = make(tmp_path / "d") / "weights"
    if damage == "flip":
        weights.write_bytes(b"v" + weights.read_bytes()[1:])
    elif damage == "truncate":
        os.truncate(weights, 10)
    elif damage == "remove":
        weights.unlink()
    else:
        (tmp_path / "d" / durable.MANIFEST).write_text("{")
    with pytest.raises(DamagedError, match=durable.MANIFEST if damage == "manifest" else "weights"):
        durable.verify_directory(tmp_path / "d")


def test_a_full_disk_says_so_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    durable.write_text(path, "old")
    with pytest.raises(RequestError, match="disk is full"), durable.replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"


def test_a_directory_that_is_not_there_stays_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durable.write_text(tmp_path / "none" / "a", "x")


def test_not_a_number_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        durable.write_json(tmp_path / "a", float("nan"))

"""A job that verifies and is killed goes on where it was; nobody else believes what it remembers."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from reelmill.cluster.node.progress import progress
from reelmill.songs.check import verify as verify_module
from reelmill.songs.check.examine import FILE, forget
from reelmill.songs.check.verify import Verification, verify
from reelmill.songs.make.generate import generate
from tests.songs.check.test_damage import flip_a_byte, rot_a_byte

KILLED_AT = 5


class Killed(Exception):
    pass


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that are read in full, as they are."""
    seen: list[int] = []
    real = verify_module.examine

    def examine(directory: Path, number: int, *rest: object) -> object:
        seen.append(number)
        return real(directory, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(verify_module, "examine", examine)
    monkeypatch.setenv("REELMILL_PROCESSORS", "1")  # one after the other
    return seen


def collecting(songs: Path) -> int:
    return progress({"stage": "collect", "directory": str(songs)}, {})


def killed_on_the_way(songs: Path) -> None:
    """What a kill leaves: five lines, and the sixth torn."""
    verify(songs, resume=True)
    lines = (songs / FILE).read_bytes().splitlines(keepends=True)
    (songs / FILE).write_bytes(b"".join(lines[: 2 * KILLED_AT + 1]) + lines[2 * KILLED_AT + 1][:50])


def test_verification_goes_on_where_it_was(songs: Path, read: list[int]) -> None:
    whole = verify(songs)
    assert not (songs / FILE).exists() and collecting(songs) == 0
    killed_on_the_way(songs)
    assert collecting(songs) == KILLED_AT
    read.clear()
    assert verify(songs, resume=True) == whole
    assert read == [5, 6, 7] and collecting(songs) == 8
    read.clear()
    assert verify(songs) == whole, "and who is not a job reads everything"
    assert read == list(range(8))
    forget(songs)
    assert verify(songs, resume=True) == whole and read == 2 * list(range(8))


def harmed(songs: Path) -> Verification:
    verify(songs, resume=True)
    flip_a_byte(songs / "audio/shard-000001.tar")
    (songs / "text/shard-000002.tar").unlink()
    listing = songs / "text/shard-000004.json"
    listing.write_text(json.dumps({**json.loads(listing.read_text()), "count": 7}))
    return verify(songs, resume=True)


def test_what_has_changed_since_is_read(songs: Path, read: list[int]) -> None:
    assert {line.split(":")[0].rpartition("/")[2] for line in harmed(songs).problems} == {
        "shard-000001.tar",
        "shard-000002.tar",
        "shard-000004.json",
    }
    before = collecting(songs)
    assert generate(songs, progress=False).complete
    read.clear()
    assert verify(songs, resume=True).intact
    assert read == [1, 2, 4] and collecting(songs) == before + 3


def test_a_plan_that_grows_is_read_where_it_has_grown(run: Path, tmp_path: Path, read: list[int]) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=12, audio=False, progress=False)
    assert verify(out, resume=True).intact
    generate(out, songs=20, progress=False)
    read.clear()
    found = verify(out, resume=True)
    assert found.intact and found.songs == 20 and read == [1, 2]


def test_a_further_round_reads_only_what_was_not_intact(songs: Path, read: list[int]) -> None:
    """The damage is one that sizes and times do not tell; beside it something is missing."""
    rot_a_byte(songs / "text/shard-000004.tar")
    (songs / "text/shard-000002.json").unlink()
    found = verify(songs, resume=True, discard_damaged=True)
    assert not found.made and [Path(path).name for path in found.discarded] == ["shard-000004.tar"]
    read.clear()
    assert generate(songs, shard=(0, 2), progress=False).made == [2, 4]
    assert generate(songs, shard=(1, 2), progress=False).made == [] and not read
    assert verify(songs, resume=True).intact and read == [2, 4]


def test_without_room_nothing_is_remembered(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert verify(songs, resume=True).intact


def test_a_copy_is_read(songs: Path, tmp_path: Path, read: list[int]) -> None:
    verify(songs, resume=True)
    copy = Path(shutil.copytree(songs, tmp_path / "copy", copy_function=shutil.copyfile))
    read.clear()
    assert verify(copy, resume=True).intact and read == list(range(8))

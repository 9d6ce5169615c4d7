"""A job that verifies and is killed goes on where it was; nobody else believes what it remembers."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from reelmill.cluster.node.progress import progress
from reelmill.songs.check.examine import FILE, forget
from reelmill.songs.check.verify import Verification, verify
from reelmill.songs.make import scheduler
from reelmill.songs.make.generate import generate
from reelmill.songs.make.pool import Pool
from tests.songs.check.test_damage import flip_a_byte, rot_a_byte

KILLED_AT = 5


class Killed(Exception):
    pass


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The shards that are read in full, as they are."""
    seen: list[int] = []
    real, really = Pool.examine, scheduler.examine

    def examine(pool: Pool, directory: Path, number: int, *rest: object) -> object:
        seen.append(number)
        return real(pool, directory, number, *rest)  # type: ignore[arg-type]

    def examine_here(directory: Path, number: int, *rest: object) -> object:
        seen.append(number)
        return really(directory, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Pool, "examine", examine)
    monkeypatch.setattr(scheduler, "examine", examine_here)
    return seen


def collecting(songs: Path) -> int:
    return progress({"stage": "collect", "directory": str(songs)}, {})


def killed_on_the_way(songs: Path) -> None:
    """What a kill leaves: five lines, and the sixth torn."""
    verify(songs, processes=1, resume=True)
    lines = (songs / FILE).read_bytes().splitlines(keepends=True)
    (songs / FILE).write_bytes(b"".join(lines[: 2 * KILLED_AT + 1]) + lines[2 * KILLED_AT + 1][:50])


def test_verification_goes_on_where_it_was(songs: Path, read: list[int]) -> None:
    whole = verify(songs, processes=1)
    assert not (songs / FILE).exists() and collecting(songs) == 0
    killed_on_the_way(songs)
    assert collecting(songs) == KILLED_AT
    read.clear()
    assert verify(songs, processes=1, resume=True) == whole
    assert read == [5, 6, 7] and collecting(songs) == 8
    read.clear()
    assert verify(songs, processes=1) == whole, "and who is not a job reads everything"
    assert read == list(range(8))
    forget(songs)
    assert verify(songs, processes=1, resume=True) == whole and read == 2 * list(range(8))


def harmed(songs: Path) -> Verification:
    verify(songs, processes=1, resume=True)
    flip_a_byte(songs / "audio/shard-000001.tar")
    (songs / "text/shard-000002.tar").unlink()
    listing = songs / "text/shard-000004.json"
    listing.write_text(json.dumps({**json.loads(listing.read_text()), "count": 7}))
    return verify(songs, processes=1, resume=True)


def test_what_has_changed_since_is_read(songs: Path, read: list[int]) -> None:
    assert {line.split(":")[0].rpartition("/")[2] for line in harmed(songs).problems} == {
        "shard-000001.tar",
        "shard-000002.tar",
        "shard-000004.json",
    }
    before = collecting(songs)
    assert generate(songs, progress=False).complete
    read.clear()
    assert verify(songs, processes=1, resume=True).intact
    assert read == [1, 2, 4] and collecting(songs) == before + 3


def test_a_plan_that_grows_is_read_where_it_has_grown(run: Path, tmp_path: Path, read: list[int]) -> None:
    out = tmp_path / "songs"
    generate(run, out, songs=12, audio=False, progress=False)
    assert verify(out, processes=1, resume=True).intact
    generate(out, songs=20, progress=False)
    read.clear()
    found = verify(out, processes=1, resume=True)
    assert found.intact and found.songs == 20 and read == [1, 2]


def test_a_further_round_reads_only_what_was_not_intact(songs: Path, read: list[int]) -> None:
    """The damage is one that sizes and times do not tell."""
    rot_a_byte(songs / "text/shard-000004.tar")
    assert not verify(songs, processes=1, resume=True).intact
    read.clear()
    outcome = generate(songs, shard=(0, 2), progress=False, recall=True)
    assert outcome.complete and outcome.made == [4] and set(read) == {4}
    read.clear()
    assert generate(songs, shard=(1, 2), progress=False, recall=True).made == [] and not read
    generate(songs, shard=(1, 2), progress=False)
    assert sorted(read) == [1, 3, 5, 7], "and a person who asks again may have reason to doubt"
    assert verify(songs, processes=1, resume=True).intact


def test_damage_that_nobody_sees_is_mended_beside_what_is_missing(songs: Path) -> None:
    """In one round: the share would trust sizes and times, if no job had read what they hide."""
    rot_a_byte(songs / "text/shard-000004.tar")
    (songs / "text/shard-000002.json").unlink()
    assert not verify(songs, processes=1, resume=True).made
    assert generate(songs, progress=False, recall=True).made == [2, 4]
    assert verify(songs, processes=1).intact


def test_without_room_nothing_is_remembered(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert verify(songs, processes=1, resume=True).intact


def test_a_copy_is_read(songs: Path, tmp_path: Path, read: list[int]) -> None:
    verify(songs, processes=1, resume=True)
    copy = Path(shutil.copytree(songs, tmp_path / "copy", copy_function=shutil.copyfile))
    read.clear()
    assert verify(copy, processes=1, resume=True).intact and read == list(range(8))

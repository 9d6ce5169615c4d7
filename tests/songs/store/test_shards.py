"""A shard exists if its manifest exists and agrees; leases save work and never decide anything."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.audio.settings import AudioSettings
from reelmill.errors import DamagedError
from reelmill.sampling.settings import SamplingSettings
from reelmill.songs.make.scheduler import Scheduler, Work
from reelmill.songs.settings import SongsSettings
from reelmill.songs.store import leases as leases_module
from reelmill.songs.store.leases import Leases, read_lease, read_leases
from reelmill.songs.store.manifest import Kind, check, committing, read_manifest, shard_numbers, tar_path
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.tar import TarReader, TarWriter, read_some

MEMBERS = [("000000000.abc", b"X:1\n"), ("000000000.json", b"{}"), ("000000000.mid", bytes(1000))]


def write(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    tar = TarWriter(file)
    for name, data in members:
        tar.add(name, data)
    tar.close()
    assert (tar.bytes, tar.sha256) == (
        len(file.getvalue()),
        hashlib.sha256(file.getvalue()).hexdigest(),
    )
    return file.getvalue()


def test_a_tar_is_what_pythons_own_module_reads_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(write(MEMBERS))
    with tarfile.open(path) as tar:
        assert [(member.name, tar.extractfile(member).read()) for member in tar] == MEMBERS  # type: ignore[union-attr]
    assert list(TarReader(path)) == MEMBERS
    assert list(read_some(path, lambda name: name.endswith("json"))) == [MEMBERS[1]]
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in MEMBERS:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert (tmp_path / "b.tar").read_bytes() == path.read_bytes()


def test_a_header_with_a_negative_size_is_no_header(tmp_path: Path) -> None:
    """Tar programs write sizes beyond octal digits in base 256, which has a sign."""
    header = bytearray(tarfile.TarInfo("000000001.json").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = (-512 % 2**96).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "shard-000000.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    assert tarfile.TarInfo.frombuf(bytes(header), "utf-8", "strict").size == -512
    with pytest.raises(DamagedError, match="no tar header at byte 0"):
        list(read_some(path, lambda _: True))
    with pytest.raises(DamagedError, match="no tar header at byte 0"):
        list(TarReader(path))


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    data, path = write(MEMBERS), tmp_path / "a.tar"
    whole = durable.sha256(path) if path.write_bytes(data) else ""
    for place in [*range(0, 600, 7), *range(600, len(data), 97)]:
        for harmed in (data[:place], data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]):
            path.write_bytes(harmed)
            reader = TarReader(path)
            try:
                list(reader)
            except DamagedError:
                continue
            assert reader.sha256 != whole


PLAN = Plan(
    seed=0,
    songs=60,
    audio=False,
    sampling=SamplingSettings(),
    audio_settings=AudioSettings(),
    songs_settings=SongsSettings(songs_per_shard=10),
    model="",
    run="",
    checkpoint="",
    fingerprint={},
)
TEXT: tuple[Kind, ...] = ("text",)


def commit(directory: Path, number: int, plan: Plan = PLAN, kind: Kind = "text") -> None:
    with committing(directory, kind, number) as shard:
        for name, data in MEMBERS:
            shard.add(name, data)
        shard.facts = {"first": plan.first(number), "count": plan.count(number), "failed": [], "attempts": {}}
        shard.made_by = {"host": "here"}


def test_a_block_that_ends_badly_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), committing(tmp_path, "text", 3) as shard:
        shard.add("a", b"b")
        raise ZeroDivisionError
    assert list((tmp_path / "text").iterdir()) == []
    assert shard_numbers(tmp_path, "text") == set()


def test_committing_again_gives_the_same_file(tmp_path: Path) -> None:
    commit(tmp_path, 3)
    first = tar_path(tmp_path, "text", 3).read_bytes()
    commit(tmp_path, 3)
    assert tar_path(tmp_path, "text", 3).read_bytes() == first
    assert check(tmp_path, "text", 3, 30, 10) == read_manifest(tmp_path, "text", 3)
    for first_id, count in [(20, 10), (30, 9)]:
        with pytest.raises(DamagedError, match=r"first 30, count 10, should be"):
            check(tmp_path, "text", 3, first_id, count)


def test_a_copied_directory_counts(tmp_path: Path) -> None:
    """Copies lose the times of files; then the hash decides."""
    commit(tmp_path, 3)
    os.utime(tar_path(tmp_path, "text", 3))
    check(tmp_path, "text", 3, 30, 10)


def test_finishing_removes_what_others_left(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    mine = durable.temporary(tar_path(tmp_path, "text", 3))
    others = durable.temporary(tar_path(tmp_path, "text", 4))
    for path in (mine, others):
        path.write_bytes(b"half")
    commit(tmp_path, 3)
    assert (mine.exists(), others.exists()) == (False, True)


def hand_out(share: Scheduler, leases: Leases) -> list[Work]:
    works = []
    while work := share.next(leases):
        works.append(work)
    return works


def test_own_share_first_then_the_others_from_the_far_end(tmp_path: Path) -> None:
    commit(tmp_path, 2)
    with Leases(tmp_path, "0/2") as leases:
        works = hand_out(Scheduler(tmp_path, PLAN, (0, 2), halves=TEXT), leases)
    assert [work.shard for work in works] == [0, 4, 5, 3, 1]
    assert [(work.first, work.count, work.text, work.audio) for work in works[:2]] == [
        (0, 10, True, False),
        (40, 10, True, False),
    ]


def test_parts_of_a_share_are_divided_and_then_shared(tmp_path: Path) -> None:
    """Workers of one command help each other before they take over other shares."""
    parts = [Scheduler(tmp_path, PLAN, (0, 2), (part, 2), TEXT) for part in range(2)]
    with Leases(tmp_path, "0/2") as leases:
        first = parts[0].next(leases)
        second = parts[1].next(leases)
        assert first and second and (first.shard, second.shard) == (0, 2)
        assert [work.shard for work in hand_out(parts[1], leases)] == [4, 5, 3, 1]
    with Leases(tmp_path, "0/2") as leases:
        assert [work.shard for work in hand_out(parts[0], leases)] == [4, 2, 5, 3, 1]


def holder(directory: Path, shard: int) -> "subprocess.Popen[str]":
    """Another process that holds a lease until its input ends."""
    program = (
        "import sys; from pathlib import Path; from reelmill.songs.store.leases import Leases\n"
        f"with Leases(Path({str(directory)!r}), '1/2') as leases:\n"
        f"    print(leases.take({shard}), flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "True\n"
    return process


def test_a_shard_in_other_hands_is_left_until_they_are_gone(tmp_path: Path) -> None:
    other = holder(tmp_path, 2)
    share = Scheduler(tmp_path, PLAN, (0, 2), halves=TEXT)
    with Leases(tmp_path, "0/2") as leases:
        assert [work.shard for work in hand_out(share, leases)] == [0, 4, 5, 3, 1]
        assert share.waits and share.unfinished() == [0, 2, 4]
        lease = read_lease(tmp_path, 2)
        assert lease and lease.live and (lease.facts["pid"], lease.facts["share"]) == (other.pid, "1/2")
        other.kill()
        other.wait()
        assert [work.shard for work in hand_out(share, leases)] == [2]
        assert not share.waits
        assert [lease.shard for lease in read_leases(tmp_path)] == [0, 1, 2, 3, 4, 5]
    assert read_leases(tmp_path) == []
    for pipe in (other.stdin, other.stdout):
        assert pipe
        pipe.close()


def test_a_lease_of_another_machine_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leases" / "shard-000002.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "share": "1/2"}))
    with Leases(tmp_path, "0/2") as leases:
        assert not leases.take(2)
        old = time.time() - leases_module.EXPIRY - 1
        os.utime(path, (old, old))
        assert leases.take(2)
    assert not path.exists()


def test_a_lease_given_back_leaves_nothing_of_killed_holders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who writes one just then writes it again."""
    path = tmp_path / "leases" / "shard-000002.json"
    with Leases(tmp_path, "0/2") as leases:
        assert leases.take(2)
        durable.temporary(path).write_text("{")
        other = durable.temporary(path.with_name("shard-000003.json"))
        other.write_text("{")
    assert list(path.parent.iterdir()) == [other]
    path.write_text("{}")
    old = time.time() - leases_module.EXPIRY - 1
    os.utime(path, (old, old))
    replace, tidied = Path.replace, []

    def tidy_and_replace(self: Path, target: Path) -> Path:
        if not tidied:
            tidied.append(self)
            durable.remove_temporaries(path.parent, path.stem)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", tidy_and_replace)
    with Leases(tmp_path, "0/2") as leases:
        assert leases.take(2) and tidied
        assert [lease.facts["share"] for lease in read_leases(tmp_path)] == ["0/2"]


def test_a_lease_is_renewed_with_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "EXPIRY", 0.6)
    with Leases(tmp_path, "0/2") as leases:
        assert leases.take(2)
        leases.report(2, 7)
        deadline = time.monotonic() + 30
        while (lease := read_lease(tmp_path, 2)) and lease.facts["songs"] != 7:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def leased_elsewhere(directory: Path, shard: int, seconds: float = 0.0) -> Path:
    """A lease of another machine, last renewed ``seconds`` ago."""
    path = directory / "leases" / f"shard-{shard:06d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": "deadnode", "pid": 1, "started": "1", "share": "1/2"}))
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_dead_helpers_shard_is_waited_for_and_made(tmp_path: Path) -> None:
    path = leased_elsewhere(tmp_path, 1)
    share = Scheduler(tmp_path, PLAN, (0, 2), halves=TEXT)
    with Leases(tmp_path, "0/2") as leases:
        assert [work.shard for work in hand_out(share, leases)] == [0, 2, 4, 5, 3]
        assert share.waits and not hand_out(share, leases)
        leased_elsewhere(tmp_path, 1, leases_module.EXPIRY + 1)
        assert [work.shard for work in hand_out(share, leases)] == [1]
        assert not share.waits
    assert not path.exists()


def test_a_living_helpers_shard_is_not_waited_for_but_taken_if_it_is_given_back(tmp_path: Path) -> None:
    path = leased_elsewhere(tmp_path, 1, 20.0)
    share = Scheduler(tmp_path, PLAN, (0, 2), halves=TEXT)
    with Leases(tmp_path, "0/2") as leases:
        hand_out(share, leases)
        assert share.waits
        leased_elsewhere(tmp_path, 1, 3.0)  # as its holder renews it
        assert not hand_out(share, leases)
        assert not share.waits
        path.unlink()
        assert [work.shard for work in hand_out(share, leases)] == [1]
        commit(tmp_path, 1)
        leases.release(1)
        assert not hand_out(share, leases) and not share.waits


def test_a_shard_that_others_finish_is_not_waited_for(tmp_path: Path) -> None:
    leased_elsewhere(tmp_path, 1)
    share = Scheduler(tmp_path, PLAN, (0, 2), halves=TEXT)
    with Leases(tmp_path, "0/2") as leases:
        hand_out(share, leases)
        commit(tmp_path, 1)  # and its maker died before it gave the lease back
        assert not hand_out(share, leases) and not share.waits


def test_a_torn_lease_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "shard-000002.json"
    path.parent.mkdir()
    path.write_text("{")
    os.utime(path, (1, 1))
    with Leases(tmp_path, "0/2") as leases:
        assert leases.take(2)


def test_render_is_handed_only_what_has_text(tmp_path: Path) -> None:
    commit(tmp_path, 1)
    commit(tmp_path, 3)
    commit(tmp_path, 3, kind="audio")
    with Leases(tmp_path, "0/1") as leases:
        share = Scheduler(tmp_path, PLAN, halves=("audio",))
        assert [work.shard for work in hand_out(share, leases)] == [1]
        assert share.unfinished() == [0, 1, 2, 4, 5] and not share.waits

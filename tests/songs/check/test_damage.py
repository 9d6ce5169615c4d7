"""``verify`` says exactly what is wrong, and ``generate`` makes it right again, to the same bytes."""

import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reelmill import durable
from reelmill.cli import main
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.store.manifest import manifest_path, tar_path
from tests.songs.conftest import SONGS, manifests, tars

Harm = Callable[[Path], None]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rot_a_byte(path: Path) -> None:
    """As a bad disk does: nothing but the byte changes."""
    seen = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def rewrite(path: Path, change: Callable[[list[tarfile.TarInfo]], list[tarfile.TarInfo]]) -> None:
    """Rewrite a tar with other members, and its manifest so that size and hash agree with it."""
    with tarfile.open(path) as old:
        contents = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
        members = change(old.getmembers())
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in members:
            new.addfile(member, io.BytesIO(contents[member.name]))
    listing = path.with_suffix(".json")
    facts = json.loads(listing.read_text())
    listing.write_text(json.dumps({**facts, "bytes": path.stat().st_size, "sha256": durable.sha256(path)}))


def swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


TEXT, AUDIO, OTHER = "text/shard-000003.tar", "audio/shard-000003.tar", "text/shard-000005.tar"
LISTING = "text/shard-000003.json"

HARMS: dict[str, tuple[Harm, str]] = {
    "a tar is missing": (lambda d: (d / TEXT).unlink(), f"{TEXT}: missing"),
    "an audio tar is missing": (lambda d: (d / AUDIO).unlink(), f"{AUDIO}: missing"),
    "a manifest is missing": (lambda d: (d / LISTING).unlink(), LISTING),
    "a tar is truncated": (
        lambda d: truncate(d / AUDIO),
        f"{AUDIO}: {{audio_cut}} bytes, its manifest says {{audio}}",
    ),
    "a tar is empty": (lambda d: (d / TEXT).write_bytes(b""), f"{TEXT}: 0 bytes, its manifest says {{text}}"),
    "a byte is flipped": (lambda d: flip_a_byte(d / TEXT), TEXT),
    "a byte rots": (lambda d: rot_a_byte(d / AUDIO), AUDIO),
    "a manifest is garbage": (lambda d: (d / LISTING).write_text("{"), f"{LISTING}: not readable as JSON"),
    "a manifest lacks a key": (
        lambda d: (d / LISTING).write_text('{"first": 24}'),
        f"{LISTING}: not a manifest",
    ),
    "two manifests are swapped": (
        lambda d: swap(d / LISTING, (d / OTHER).with_suffix(".json")),
        f"{LISTING}: first 40, count 8, should be first 24, count 8",
    ),
    "two tars are swapped": (lambda d: swap(d / TEXT, d / OTHER), TEXT),
    "the halves of two shards are swapped": (
        lambda d: (swap(d / TEXT, d / OTHER), swap(d / LISTING, (d / OTHER).with_suffix(".json"))),  # type: ignore[func-returns-value]
        f"{LISTING}: first 40",
    ),
    "a song is gone": (
        lambda d: rewrite(d / TEXT, lambda members: members[3:]),
        f"{TEXT}: 000000024.abc is missing",
    ),
    "a song stands twice": (
        lambda d: rewrite(d / TEXT, lambda members: [*members, *members[:3]]),
        f"{TEXT}: 000000024.abc stands 2 times",
    ),
    "songs are out of order": (
        lambda d: rewrite(d / TEXT, lambda members: [*members[3:], *members[:3]]),
        f"{TEXT}: its members are not in order",
    ),
    "the model is altered": (lambda d: flip_a_byte(d / "model/model.safetensors"), "model/model.safetensors"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_verify_names_the_damage_and_generate_heals_it(songs: Path, reference: Path, harm: str) -> None:
    do_harm, expected = HARMS[harm]
    audio, text = ((reference / tar).stat().st_size for tar in (AUDIO, TEXT))  # other processors, other songs
    expected = expected.format(audio=audio, audio_cut=audio - 700, text=text)
    do_harm(songs)
    found = verify(songs)
    assert not found.intact
    lines = [line.replace(f"{songs}/", "") for line in [*found.missing, *found.problems]]
    assert any(line.startswith(expected) for line in lines), lines
    assert all("shard-000003" in line or "shard-000005" in line or "model" in line for line in lines), lines
    discarded = verify(songs, discard_damaged=True).discarded
    assert {Path(path).name for path in discarded} <= {"shard-000003.tar", "shard-000005.tar"}
    outcome = generate(songs, progress=False)
    assert outcome.complete and set(outcome.made) <= {3, 5}
    assert verify(songs).intact
    assert tars(songs) == tars(reference) and manifests(songs) == manifests(reference)


def test_damage_that_sizes_and_times_tell_is_made_good_without_being_discarded(
    songs: Path, reference: Path
) -> None:
    (songs / TEXT).unlink()
    truncate(songs / "audio/shard-000001.tar")
    flip_a_byte(songs / "text/shard-000006.tar")
    outcome = generate(songs, progress=False)
    assert outcome.complete and outcome.made == [1, 3, 6]
    assert {line.split(":")[0].removeprefix(f"{songs}/") for line in outcome.damaged} == {
        TEXT,
        "audio/shard-000001.tar",
        "text/shard-000006.tar",
    }
    assert verify(songs).intact
    assert tars(songs) == tars(reference) and manifests(songs) == manifests(reference)


def test_what_is_damaged_is_put_aside_and_not_removed(
    songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command that ``verify`` names; the songs that are intact in it stay readable."""
    rot_a_byte(songs / AUDIO)
    damaged = (songs / AUDIO).read_bytes()
    assert main(["verify", str(songs)]) == 1
    assert f"reelmill verify {songs} --discard-damaged && reelmill generate" in capsys.readouterr().out
    assert main(["verify", str(songs), "--discard-damaged"]) == 1
    assert (songs / "damaged" / AUDIO).read_bytes() == damaged and not (songs / AUDIO).exists()
    assert main(["generate", str(songs), "--json"]) == 0
    assert main(["verify", str(songs)]) == 0


def test_files_that_hide_are_none_of_ours(songs: Path) -> None:
    """A file system on the network leaves such names where an open file was removed."""
    (songs / "audio" / ".nfs000000000a1b2c3d00000001").write_bytes(b"?")
    assert verify(songs).intact


def test_what_does_not_belong_is_named(songs: Path) -> None:
    shutil.copy(tar_path(songs, "text", 0), songs / "text" / "shard-000099.tar")
    shutil.copy(manifest_path(songs, "text", 0), songs / "text" / "shard-000099.json")
    found = verify(songs)
    assert [Path(path).name for path in found.strays] == ["shard-000099.json", "shard-000099.tar"]
    assert found.made and not found.intact and "shard-000099.tar: not a file of this plan" in found.describe()


def test_what_the_disk_cannot_give_is_named_and_made_again(
    songs: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector under one tar, as the kernel tells of it; the new tar lies elsewhere."""
    bad = (songs / TEXT).stat().st_ino

    class Failing(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

    plain = Path.open

    def opened(self: Path, *arguments: Any, **named: Any) -> Any:
        file = plain(self, *arguments, **named)
        if self != songs / TEXT or os.fstat(file.fileno()).st_ino != bad:
            return file
        file.close()
        return io.BufferedReader(Failing(self))

    monkeypatch.setattr(Path, "open", opened)
    found = verify(songs, discard_damaged=True)
    assert f"{songs / TEXT}: cannot be read (Input/output error)" in found.problems
    assert generate(songs, progress=False).made == [3]
    assert tars(songs) == tars(reference)


def test_what_a_kill_left_half_written_counts_for_nothing(songs: Path) -> None:
    durable.temporary(tar_path(songs, "audio", 3)).write_bytes(b"half a tar")
    durable.temporary(manifest_path(songs, "text", 3)).write_bytes(b"{")
    durable.temporary(songs / "leases" / "shard-000003.json").write_bytes(b"{")
    assert verify(songs).intact
    generate(songs, progress=False)
    assert not list(songs.glob("*/.shard-*")), "and the next worker removes it"


def test_a_complete_directory_is_left_alone(songs: Path) -> None:
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in songs.rglob("shard-*")}
    outcome = generate(songs, progress=False)
    assert (outcome.complete, outcome.made, outcome.songs) == (True, [], SONGS)
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in songs.rglob("shard-*")}
    assert after == before

"""Kill a worker at any moment: what is there counts or does not, and the next one makes the same corpus."""

import errno
import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.store import leases
from reelmill.songs.store.manifest import KINDS, Commit, tar_path
from tests.songs.conftest import SONGS, manifests, start, tars

KILLS = 5


def test_killed_again_and_again(run: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    generator = random.Random(5)
    killed = 0
    for _ in range(KILLS):
        worker = start(run, "--songs", SONGS, "--out", out)
        # The first moments are imports; most kills should meet the work.
        seen = progress(out)
        deadline = time.monotonic() + generator.choice([2.0, 60.0, 60.0, 60.0])
        while worker.poll() is None and time.monotonic() < deadline and progress(out) <= seen:
            time.sleep(0.02)
        time.sleep(generator.random() * 0.2)
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            killed += 1
        worker.communicate()
        if (out / "plan.json").exists():
            broken = verify(out).problems
            assert not [line for line in broken if "model" not in line], broken
    assert killed >= 3
    last = start(run, "--songs", SONGS, "--out", out)
    _, said = last.communicate()
    assert last.returncode == 0, said.decode()
    assert tars(out) == tars(reference) and manifests(out) == manifests(reference)
    assert verify(out).intact
    assert not list(out.rglob(".shard-*")), "finished shards keep no leftovers"


def progress(directory: Path) -> int:
    """How many files the work has left so far, finished or not."""
    return sum(len(list((directory / kind).glob("*shard-*"))) for kind in KINDS)


def test_interrupted_it_gives_everything_back(run: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    worker = start(run, "--songs", SONGS, "--out", out)
    while worker.poll() is None and progress(out) < 2:
        time.sleep(0.01)
    worker.send_signal(signal.SIGINT)
    _, said = worker.communicate()
    assert worker.returncode in (0, 130), said.decode()
    assert "Traceback" not in said.decode()
    assert list((out / "leases").iterdir()) == []
    assert not [path for path in out.rglob(".*") if durable.is_temporary(path)]
    assert generate(out, progress=False).complete
    assert tars(out) == tars(reference)


def test_two_workers_on_every_shard_do_no_harm(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases that are never live: both make all of it, each over the other's files."""
    monkeypatch.setattr(leases, "EXPIRY", -1.0)
    out = tmp_path / "songs"
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: generate(run, out, songs=SONGS, progress=False), range(2)))
    assert all(outcome.complete and not outcome.faults for outcome in outcomes)
    # More than 8 where they overlap, which is up to the machine: one may be done before the other begins.
    assert sum(len(outcome.made) for outcome in outcomes) >= 8
    assert tars(out) == tars(reference) and manifests(out) == manifests(reference)
    assert verify(out).intact


def test_a_file_that_another_machine_has_removed_is_one_that_somebody_finished(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS an open file that goes away on another machine is stale, not merely without a name."""
    out = tmp_path / "songs"
    add = Commit.add
    harmed: list[str] = []

    def add_stale(self: Commit, name: str, *pieces: bytes) -> None:
        if name == "000000020.wav" and not harmed:
            harmed.append(name)
            raise OSError(errno.ESTALE, "Stale file handle")
        add(self, name, *pieces)

    monkeypatch.setattr(Commit, "add", add_stale)
    outcome = generate(run, out, songs=SONGS, progress=False)
    assert harmed and outcome.complete and not outcome.faults
    assert tars(out) == tars(reference)


def test_what_a_dead_machine_holds_is_made_by_who_is_left(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is fresh, so that nobody can know yet; nobody ends before it has expired."""
    monkeypatch.setattr(leases, "EXPIRY", 3.0)
    out = tmp_path / "songs"
    (out / "leases").mkdir(parents=True)
    lease = {"host": "deadnode", "pid": 1, "started": "1", "share": "1/2"}
    for shard in (1, 4):  # one of others and one of its own
        (out / "leases" / f"shard-{shard:06d}.json").write_text(json.dumps(lease))
        os.utime(out / "leases" / f"shard-{shard:06d}.json", (time.time() + 2,) * 2)
    outcome = generate(run, out, songs=SONGS, shard=(0, 2), audio=False, progress=False)
    assert outcome.complete and outcome.remaining == 0 and sorted(outcome.made) == list(range(8))
    assert tars(out) == tars(reference, "text")


@pytest.mark.parametrize("kind", ["text", "audio"])
def test_killed_between_tar_and_manifest(songs: Path, reference: Path, kind: str) -> None:
    """The tar is in place and nobody vouches for it."""
    tar_path(songs, "text" if kind == "text" else "audio", 2).with_suffix(".json").unlink()
    assert not verify(songs).intact
    worker = start(songs)
    worker.communicate()
    assert worker.returncode == 0
    assert tars(songs) == tars(reference) and manifests(songs) == manifests(reference)

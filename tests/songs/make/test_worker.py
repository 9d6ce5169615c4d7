"""A worker has no more in hand than its slots need, whatever holds it up."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reelmill.songs.check.verify import verify
from reelmill.songs.make import produce, worker
from reelmill.songs.make.generate import generate
from reelmill.songs.make.pool import Pool
from reelmill.songs.store import leases, manifest
from reelmill.songs.store.direct_io import DirectFile
from reelmill.songs.store.leases import read_leases
from tests.songs.conftest import SONGS, tars

SLOTS, PER_SHARD, AHEAD = 4, 8, 4
_STILL = 1.5  # seconds without anything new, after which nothing more is expected


class Stuck(DirectFile):
    """A disk that takes nothing until it is let go."""

    go = threading.Event()

    def write(self, data: bytes | memoryview) -> int:
        self.go.wait()
        return super().write(data)


class Slow(DirectFile):
    """A disk that takes its time over each piece."""

    seconds, members = 0.01, 3 * PER_SHARD

    def write(self, data: bytes | memoryview) -> int:
        time.sleep(self.seconds)
        return super().write(data)


class SlowPool(Pool):
    """Takes longer over a judgement than the sampler over all its slots."""

    delay = 0.3

    def judge(self, *given: Any) -> Future[Any]:
        late: Future[Any] = Future()

        def pass_on(judged: Future[Any]) -> None:
            threading.Timer(self.delay, lambda: late.set_result(judged.result())).start()

        super().judge(*given).add_done_callback(pass_on)
        return late


@contextmanager
def stuck_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(manifest, "DirectFile", Stuck)
    Stuck.go.clear()
    try:
        yield
    finally:
        Stuck.go.set()


def most_leases(directory: Path) -> int:
    """How many shards are in hand once their number has not changed for a while."""
    seen, since = 0, time.monotonic()
    while not seen or time.monotonic() - since < _STILL:
        now = len(read_leases(directory))
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("judge", ["fast", "slow"])
@pytest.mark.parametrize("audio", [False, True])
def test_a_slow_disk_holds_the_sampler_back(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audio: bool, judge: str
) -> None:
    """Songs in hand: those in slots, some times as many that are sampled, and shards that are begun."""
    # More may be sampled behind a song that takes many attempts, and whether one does is chance here.
    monkeypatch.setattr(worker, "_LAGGARD", AHEAD)
    if judge == "slow":
        monkeypatch.setattr(produce, "Pool", SlowPool)
    out = tmp_path / "songs"
    with ThreadPoolExecutor(1) as thread:
        with stuck_disk(monkeypatch):
            working = thread.submit(
                generate,
                run,
                out,
                songs=SONGS,
                audio=audio,
                overrides=[f"sampling.slots={SLOTS}"],
                progress=False,
            )
            held = most_leases(out)
        assert working.result().complete
    assert held <= (1 + AHEAD) * SLOTS // PER_SHARD + 2 < SONGS // PER_SHARD
    assert tars(out) == tars(reference, *(["text", "audio"] if audio else ["text"]))


def test_a_slow_disk_shows_in_the_seconds_of_writing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though waiting for it takes no processor; and seconds of all shards add up to what there was."""
    pools: list[Pool] = []
    monkeypatch.setattr(produce, "Pool", lambda *given: pools.append(Pool(*given)) or pools[-1])
    monkeypatch.setattr(manifest, "DirectFile", Slow)
    out = tmp_path / "songs"
    (out / "leases").mkdir(parents=True)
    lease = out / "leases" / "shard-000001.json"
    lease.write_text("{}")  # its shard comes last
    old = time.time() - leases.EXPIRY + 3
    os.utime(lease, (old, old))
    assert generate(run, out, songs=16, progress=False).made == [0, 1]
    made_by = [json.loads(path.read_text())["made_by"] for path in out.glob("*/shard-*.json")]
    assert all(maker["stages"]["writing"] >= Slow.members * Slow.seconds for maker in made_by)
    for stage, task in (("judging", "judge"), ("recording", "record")):
        assert 0 < sum(maker["stages"][stage] for maker in made_by) <= pools[0].seconds[task]


def test_what_has_text_is_taken_up_shard_by_shard(
    songs: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to sample, so nothing to begin early."""
    shutil.rmtree(songs / "audio")
    with ThreadPoolExecutor(1) as thread:
        with stuck_disk(monkeypatch):
            working = thread.submit(generate, songs, overrides=[f"sampling.slots={SLOTS}"], progress=False)
            held = most_leases(songs)
        assert working.result().complete
    assert held <= 2
    assert tars(songs) == tars(reference)


def test_where_sound_is_made_first_text_can_follow(songs: Path, reference: Path) -> None:
    """Of one's own shards only sound is missing; a shard of others has lost its text as well."""
    (songs / "audio" / "shard-000000.json").unlink()
    (songs / "text" / "shard-000003.tar").write_bytes(b"")
    (songs / "audio" / "shard-000003.json").unlink()
    outcome = generate(songs, shard=(0, 2), progress=False)
    assert outcome.complete and sorted(outcome.made) == [0, 3]
    assert verify(songs).intact and tars(songs) == tars(reference)

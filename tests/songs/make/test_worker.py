"""A worker has no more in hand than its slots need, whatever holds it up, and outlives what crashes it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from reelmill import durable
from reelmill.model import TrainedModel
from reelmill.sampling.engine import Engine
from reelmill.songs.check.verify import verify
from reelmill.songs.make import sampler, worker
from reelmill.songs.make.generate import generate
from reelmill.songs.make.sampler import Sampler, make_songs
from reelmill.songs.make.validate import Validated, validate
from reelmill.songs.store import manifest
from reelmill.songs.store.direct_io import DirectFile
from reelmill.songs.store.leases import read_leases
from reelmill.songs.store.manifest import read_manifest, tar_path
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.reader import stored_songs
from reelmill.songs.store.totals import Outcome
from tests.songs.conftest import SONGS, tars

SLOTS, PER_SHARD = 4, 8
_STILL = 1.5  # seconds without anything new, after which nothing more is expected


class Slow(DirectFile):
    """A disk that takes its time over each piece."""

    seconds, members = 0.01, 3 * PER_SHARD

    def write(self, data: bytes | memoryview) -> int:
        time.sleep(self.seconds)
        return super().write(data)


def most_leases(directory: Path, working: "Future[Outcome]") -> int:
    """How many shards are in hand once their number has not changed for a while."""
    seen, since = 0, time.monotonic()
    while not working.done() and (not seen or time.monotonic() - since < _STILL):
        now = len(read_leases(directory))
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)
    return seen


def test_a_song_of_many_attempts_lets_no_more_than_the_bound_pile_up(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill costs what is in hand: here no attempt at the first song is valid, and shards wait behind it."""
    held = [True]

    def hold_back_the_first(abc: str, *how: Any) -> Validated:
        seen = validate(abc, *how)
        return replace(seen, encoding="held back") if held and abc.startswith("X:0\n") else seen

    monkeypatch.setattr(sampler, "validate", hold_back_the_first)
    out = tmp_path / "songs"
    overrides = [f"sampling.slots={SLOTS}", "songs.max_attempts=10000"]
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(
            generate, run, out, songs=400, audio=False, overrides=overrides, progress=False
        )
        try:
            in_hand = most_leases(out, working)
        finally:
            held.clear()
        assert working.result().complete
    assert in_hand <= 1 + (1 + worker.UNWRITTEN) * SLOTS // PER_SHARD


def test_a_slow_disk_shows_in_the_seconds_of_writing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And holds the worker back: seconds of all stages add up to no more than there were."""
    monkeypatch.setattr(manifest, "DirectFile", Slow)
    out = tmp_path / "songs"
    outcome = generate(run, out, songs=16, progress=False)
    assert outcome.made == [0, 1]
    made_by = [json.loads(path.read_text())["made_by"] for path in out.glob("*/shard-*.json")]
    assert all(maker["stages"]["writing"] >= Slow.members * Slow.seconds for maker in made_by)
    assert sum(sum(maker["stages"].values()) for maker in made_by) <= outcome.seconds


def test_what_has_text_is_rendered_shard_by_shard(songs: Path, reference: Path) -> None:
    """Nothing to sample; and text that is lost beside it is made again."""
    shutil.rmtree(songs / "audio")
    (songs / "text" / "shard-000003.tar").write_bytes(b"")
    outcome = generate(songs, shard=(0, 2), progress=False)
    assert outcome.complete and outcome.made == list(range(8))
    assert verify(songs).intact and tars(songs) == tars(reference)


def test_a_song_whose_sound_crashes_its_worker_is_a_declared_failure(songs: Path, reference: Path) -> None:
    """The worker is gone with it. Who comes next finds an unfinished tar, and the song by trying."""
    plan, (_, stored) = read_plan(songs), stored_songs(songs, 2)
    crashing = next(song for song in stored if not song.failure)
    shutil.rmtree(songs / "audio")
    program = f"""
import os, signal, sys
from pathlib import Path
from reelmill.audio.render import Renderer
from reelmill.songs.make.generate import generate
render = Renderer.render
def crash(self, midi):
    if midi == bytes.fromhex({crashing.midi.hex()!r}):
        os.kill(os.getpid(), signal.SIGSEGV)
    return render(self, midi)
Renderer.render = crash
if __name__ == "__main__":
    generate(Path({str(songs)!r}), progress=False)
"""
    script = songs.parent / "crashing.py"
    script.write_text(program)
    assert run_python(script) == -signal.SIGSEGV
    assert not tar_path(songs, "audio", 2).exists()
    assert run_python(script) == 0
    audio = read_manifest(songs, "audio", 2)
    same_midi = [song.id for song in stored if song.midi == crashing.midi]
    assert [(one.id, one.reason) for one in audio.failed] == [
        (song, "crashes the synthesizer (SIGSEGV)") for song in same_midi
    ]
    assert verify(songs).intact and plan.songs == SONGS


def run_python(script: Path) -> int:
    return subprocess.run([sys.executable, str(script)], timeout=300, env=os.environ, check=False).returncode


def test_a_worker_that_was_killed_while_it_rendered_costs_no_song_its_sound(
    songs: Path, reference: Path
) -> None:
    """Its unfinished tar alone says nothing against a song."""
    shutil.rmtree(songs / "audio")
    (songs / "audio").mkdir()
    durable.temporary(tar_path(songs, "audio", 2)).write_bytes(b"half a tar")
    assert generate(songs, progress=False).complete
    assert tars(songs) == tars(reference)
    assert not [path for path in (songs / "audio").iterdir() if durable.is_temporary(path)]


def test_attempts_validated_by_other_processes_are_the_same_songs(
    model: TrainedModel, reference: Path
) -> None:
    """As where a GPU samples faster than one processor validates."""
    plan = read_plan(reference)
    engine = Engine(model, plan.sampling, plan.seed)
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        made = list(make_songs(range(SONGS), Sampler(engine, plan, executor)))
    stored = [song for shard in range(plan.shards) for song in stored_songs(reference, shard)[1]]
    assert [(song.id, song.facts, song.midi, song.failure) for song in made] == [
        (song.id, song.facts, song.midi, song.failure) for song in stored
    ]

"""Several workers of one command, each in a process of its own: the same songs, whatever becomes of them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from reelmill import resources
from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.check.verify import verify
from reelmill.songs.make import launch
from reelmill.songs.make.generate import generate
from reelmill.songs.make.launch import CommonWork
from reelmill.songs.make.produce import worker_count
from reelmill.songs.make.render import render_directory
from reelmill.songs.make.scheduler import Work
from reelmill.songs.make.worker import Made, Worker
from reelmill.songs.store.leases import read_leases
from reelmill.songs.store.plan import read_plan
from tests.songs.conftest import SONGS, manifests, tars

THREE = ["songs.workers=3"]


def makers(directory: Path) -> set[int]:
    """Numbers of the processes that made the shards."""
    return {json.loads(path.read_text())["made_by"]["pid"] for path in directory.glob("[at]*/shard-*.json")}


def worker_processes(parent: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "--parent", str(parent), "--full", launch.MODULE], capture_output=True, text=True
    )
    return [int(number) for number in found.stdout.split()]


def running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def others_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker of this process begins when another has."""
    begun = threading.Event()
    lend, run = CommonWork.lend, Worker.run

    def lend_first(self: CommonWork) -> tuple[Work | None, bool]:
        lent = lend(self)
        begun.set()
        return lent

    def run_second(self: Worker) -> Made:
        assert begun.wait(120)
        return run(self)

    monkeypatch.setattr(CommonWork, "lend", lend_first)
    monkeypatch.setattr(Worker, "run", run_second)


def test_they_make_what_one_makes(run: Path, reference: Path, tmp_path: Path, others_first: None) -> None:
    out = tmp_path / "songs"
    outcome = generate(run, out, songs=SONGS, overrides=THREE, progress=False)
    assert outcome.complete and outcome.made == list(range(8)) and outcome.songs == SONGS
    assert makers(out) - {os.getpid()}
    assert tars(out) == tars(reference) and manifests(out) == manifests(reference)
    assert verify(out).intact and not read_leases(out)


def test_they_render_what_has_text(songs: Path, reference: Path, others_first: None) -> None:
    for path in songs.glob("audio/shard-*"):
        path.unlink()
    assert render_directory(songs, THREE, progress=False).complete
    assert makers(songs) - {os.getpid()}
    assert tars(songs) == tars(reference)


@pytest.fixture
def hit(monkeypatch: pytest.MonkeyPatch) -> Callable[[signal.Signals], list[int]]:
    """Sends a signal to the first worker process that has taken up a song; its number then stands in the
    list.
    """

    def hit_one(number: signal.Signals) -> list[int]:
        found: list[int] = []
        taken_up = CommonWork.taken_up

        def take_up_and_hit(self: CommonWork, *facts: Any) -> None:
            taken_up(self, *facts)
            thread = threading.current_thread().name
            if thread.startswith("worker process") and not found:
                found.append(int(thread.split()[-1]))
                os.kill(found[0], number)
                monkeypatch.setattr(launch, "_SILENCE", 5.0)  # not before: to start may take longer

        monkeypatch.setattr(CommonWork, "taken_up", take_up_and_hit)
        return found

    return hit_one


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_is_killed_or_stuck_costs_what_it_had_in_hand(
    run: Path,
    reference: Path,
    tmp_path: Path,
    others_first: None,
    hit: Callable[[signal.Signals], list[int]],
    number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "songs"
    lost = hit(number)
    outcome = generate(run, out, songs=SONGS, overrides=THREE, progress=False)
    assert lost and not running(lost[0]) and "a worker process was lost (SIGKILL)" in caplog.text
    assert outcome.complete and not outcome.faults
    assert tars(out) == tars(reference) and not read_leases(out)


@pytest.fixture
def begun() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """``reelmill generate`` with these arguments; killed at the end, whatever becomes of the test."""
    commands: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "reelmill", "generate", *map(str, arguments)]
        commands.append(subprocess.Popen(words, **{"stderr": subprocess.DEVNULL, **options}))
        return commands[-1]

    yield begin
    for command in commands:
        command.kill()
        command.wait()


@pytest.mark.slow
def test_nobody_has_to_read_how_far_they_are(run: Path, reference: Path, tmp_path: Path, begun) -> None:
    command = begun(run, "--out", tmp_path / "songs", "--songs", SONGS, *THREE, stderr=subprocess.PIPE)
    command.stderr.close()
    assert command.wait(120) == 0
    assert tars(tmp_path / "songs") == tars(reference)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_the_command(run: Path, tmp_path: Path, begun, number: signal.Signals) -> None:
    out = tmp_path / "songs"
    command = begun(run, "--out", out, "--songs", 20000, *THREE)
    wait_until(lambda: len(makers(out)) >= 3)
    others = worker_processes(command.pid)
    assert len(others) == 2
    if number == signal.SIGINT:
        for process in (command.pid, *others):  # a terminal sends it to all
            os.kill(process, number)
        assert command.wait(30) == 130
        assert not read_leases(out) and not list(out.glob("*/.shard-*"))
    else:
        command.kill()
        command.wait()
    wait_until(lambda: not any(map(running, others)), 20)


def test_what_one_of_them_refuses_the_command_refuses(run: Path, tmp_path: Path, monkeypatch) -> None:
    """Here because the model's copy, which they read, is damaged after this process has read it."""
    begin = launch.Workers.__enter__

    def damage_and_begin(self):
        weights = tmp_path / "songs" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        return begin(self)

    monkeypatch.setattr(launch.Workers, "__enter__", damage_and_begin)
    monkeypatch.setattr(Worker, "_step", lambda self: self._source.waits or True)  # until it hears of it
    with pytest.raises(IncompleteError, match=r"model\.safetensors"):
        generate(run, tmp_path / "songs", songs=SONGS, overrides=THREE, progress=False)
    assert not read_leases(tmp_path / "songs")


def test_what_goes_wrong_on_this_side_of_them_ends_the_command(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is handed out here, and to take a lease needs room on the disk."""

    def lend(self: launch.CommonWork) -> NoReturn:
        raise RequestError("the disk is full")

    monkeypatch.setattr(launch.CommonWork, "lend", lend)
    monkeypatch.setattr(Worker, "_step", lambda self: self._source.waits or True)  # until it hears of it
    with pytest.raises(RequestError, match="the disk is full"):
        generate(run, tmp_path / "songs", songs=SONGS, overrides=THREE, progress=False)
    assert not read_leases(tmp_path / "songs")


@pytest.mark.parametrize(
    ("shards", "samples", "workers"),
    [(125, True, 4), (75, True, 3), (75, False, 3), (2, True, 1), (0, True, 1)],
)
def test_how_many_there_are(
    reference: Path, monkeypatch: pytest.MonkeyPatch, shards: int, samples: bool, workers: int
) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "4")
    monkeypatch.setattr(resources, "memory", lambda: 1 << 40)
    share = SimpleNamespace(in_reach=shards)
    assert worker_count(read_plan(reference).config(), share, samples) == workers  # type: ignore[arg-type]


@pytest.mark.parametrize(("free", "workers"), [(0, 1), (6 << 30, 3), (8 << 30, 4), (1 << 40, 4)])
def test_there_are_no_more_than_there_is_memory_for(
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    free: int,
    workers: int,
) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "4")
    monkeypatch.setattr(resources, "memory", lambda: free)
    share = SimpleNamespace(in_reach=250)
    config = read_plan(reference).config()
    assert worker_count(config, share, True) == workers  # type: ignore[arg-type]
    assert (f"{workers} of 4 processors get a worker" in caplog.text) == (workers < 4)
    config = dataclasses.replace(config, songs=dataclasses.replace(config.songs, workers=5))
    assert worker_count(config, share, True) == 5  # type: ignore[arg-type]


def test_sampling_in_bfloat16_says_where_it_is_slow(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ["sampling.precision=bfloat16", "sampling.device=cpu"]
    generate(run, tmp_path / "songs", songs=1, audio=False, overrides=overrides, progress=False)
    emulated = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert ("is emulated by this processor" in caplog.text) == emulated


def test_a_negative_number_of_them_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"songs\.workers"):
        generate(run, tmp_path / "songs", songs=1, overrides=["songs.workers=-1"], progress=False)

"""Several workers of one command, each in a process of its own: the same songs, whatever becomes of them."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reelmill.errors import IncompleteError, RequestError
from reelmill.songs import workers
from reelmill.songs.generate import generate
from reelmill.songs.leases import read_leases
from reelmill.songs.plan import read_plan
from reelmill.songs.produce import worker_count
from reelmill.songs.render import render_directory
from reelmill.songs.shares import Work
from reelmill.songs.verify import verify
from reelmill.songs.work import CommonWork
from reelmill.songs.worker import Made, Worker
from tests.songs.conftest import SONGS, manifests, tars

THREE = ["songs.workers=3"]


def makers(directory: Path) -> set[int]:
    """Numbers of the processes that made the shards."""
    return {json.loads(path.read_text())["made_by"]["pid"] for path in directory.glob("[at]*/shard-*.json")}


def worker_processes(parent: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "--parent", str(parent), "--full", workers.MODULE], capture_output=True, text=True
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


@pytest.mark.slow
def test_one_that_is_killed_costs_what_it_had_in_hand(
    run: Path, reference: Path, tmp_path: Path, others_first: None, monkeypatch, caplog
) -> None:
    out = tmp_path / "songs"
    killed: list[int] = []
    taken_up = CommonWork.taken_up

    def take_up_and_kill(self, *facts):
        taken_up(self, *facts)
        if threading.current_thread().name.startswith("worker process") and not killed:
            killed.append(int(threading.current_thread().name.split()[-1]))
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(CommonWork, "taken_up", take_up_and_kill)
    with caplog.at_level(logging.WARNING):
        outcome = generate(run, out, songs=SONGS, overrides=THREE, progress=False)
    assert killed and "a worker process was lost (SIGKILL)" in caplog.text
    assert outcome.complete and not outcome.faults
    assert tars(out) == tars(reference) and not read_leases(out)


@pytest.mark.slow
def test_one_that_is_stuck_is_not_waited_for(
    run: Path, reference: Path, tmp_path: Path, others_first: None, monkeypatch, caplog
) -> None:
    out = tmp_path / "songs"
    monkeypatch.setattr(workers, "_SILENCE", 5.0)
    taken_up, stuck = CommonWork.taken_up, []

    def take_up_and_stop(self, *facts):
        taken_up(self, *facts)
        if threading.current_thread().name.startswith("worker process") and not stuck:
            stuck.append(int(threading.current_thread().name.split()[-1]))
            os.kill(stuck[0], signal.SIGSTOP)

    monkeypatch.setattr(CommonWork, "taken_up", take_up_and_stop)
    outcome = generate(run, out, songs=SONGS, overrides=["songs.workers=2"], progress=False)
    assert stuck and not running(stuck[0]) and "a worker process was lost (SIGKILL)" in caplog.text
    assert outcome.complete and tars(out) == tars(reference) and not read_leases(out)


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
    begin = workers.Workers.__enter__

    def damage_and_begin(self):
        weights = tmp_path / "songs" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        return begin(self)

    monkeypatch.setattr(workers.Workers, "__enter__", damage_and_begin)
    monkeypatch.setattr(Worker, "_step", lambda self: self._source.waits or True)  # until it hears of it
    with pytest.raises(IncompleteError, match=r"model\.safetensors"):
        generate(run, tmp_path / "songs", songs=SONGS, overrides=THREE, progress=False)
    assert not read_leases(tmp_path / "songs")


def test_how_many_there_are(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "4")
    config = read_plan(songs).config()

    class Missing:
        songs, missing = 1000, 125

    assert worker_count(config, Missing, samples=True) == 4  # type: ignore[arg-type]
    Missing.songs = 600
    assert worker_count(config, Missing, samples=True) == 3  # type: ignore[arg-type]
    Missing.missing = 2
    assert worker_count(config, Missing, samples=False) == 2  # type: ignore[arg-type]
    Missing.songs, Missing.missing = 0, 0
    assert worker_count(config, Missing, samples=True) == 1  # type: ignore[arg-type]


def test_a_negative_number_of_them_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"songs\.workers"):
        generate(run, tmp_path / "songs", songs=1, overrides=["songs.workers=-1"], progress=False)

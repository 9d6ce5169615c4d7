"""One trainer a run directory, and no lock that outlives its holder."""

import multiprocessing
import os
import socket
import threading
import time

import pytest

from reelmill import lock
from reelmill.errors import RequestError
from reelmill.lock import LOCK, held_lock, live_holder

CONTEXT = multiprocessing.get_context("fork")


def _hold(run, ready, release):
    with held_lock(run):
        ready.set()
        release.wait(60)


@pytest.fixture
def holder(tmp_path):
    ready, release = CONTEXT.Event(), CONTEXT.Event()
    process = CONTEXT.Process(target=_hold, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def held_elsewhere(run):
    """Write what a trainer on another machine would have written."""
    duration = f"duration={lock.LEASE!r}"
    (run / "other").write_text(f"filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=a\n{duration}\n")
    (run / "other").rename(run / LOCK)


def test_the_second_is_refused_and_told_who_is_first(tmp_path, holder):
    with (
        pytest.raises(RequestError, match=rf"process {holder.pid} on {socket.gethostname()} is training"),
        held_lock(tmp_path),
    ):
        pass
    assert holder.is_alive()
    assert str(holder.pid) in live_holder(tmp_path)


def test_a_killed_holder_does_not_block(tmp_path, holder):
    holder.kill()
    holder.join()
    assert (tmp_path / LOCK).exists()
    with held_lock(tmp_path):
        assert str(os.getpid()) in live_holder(tmp_path)
    assert not live_holder(tmp_path)


def test_a_holder_on_another_machine_counts_while_it_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    held_elsewhere(tmp_path)
    assert live_holder(tmp_path, wait=False) is None
    gone = threading.Event()

    def beat():
        while not gone.wait(0.1):
            (tmp_path / LOCK).touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RequestError, match="process 7 on elsewhere"), held_lock(tmp_path):
            pass
    finally:
        gone.set()
        thread.join()
    with held_lock(tmp_path):
        assert str(os.getpid()) in live_holder(tmp_path)


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 0.4)
    with held_lock(tmp_path):
        before = (tmp_path / LOCK).stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_lock_of_an_earlier_version_does_not_block(tmp_path):
    (tmp_path / LOCK).write_text('{"released": true}\n')
    with held_lock(tmp_path):
        assert str(os.getpid()) in live_holder(tmp_path)


def _train_at_once(run, go, end, results):
    go.wait(60)
    try:
        with held_lock(run):
            results.put("in")
            end.wait(100)
    except RequestError as error:
        results.put(str(error))


@pytest.mark.parametrize("before", ["nothing", "a holder killed at once", "a dead holder elsewhere"])
def test_of_many_starts_at_once_one_trains(tmp_path, before, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 3.0)
    if before == "a holder killed at once":
        (tmp_path / LOCK).write_text("")
    elif before == "a dead holder elsewhere":
        held_elsewhere(tmp_path)
    go, end, results = CONTEXT.Barrier(6), CONTEXT.Event(), CONTEXT.Queue()
    starts = [CONTEXT.Process(target=_train_at_once, args=(tmp_path, go, end, results)) for _ in range(6)]
    for start in starts:
        start.start()
    said = [results.get(timeout=100) for _ in starts]
    end.set()
    for start in starts:
        start.join(60)
    refused = [what for what in said if what != "in"]
    assert len(refused) == 5
    assert all("is training in this run directory" in what for what in refused)

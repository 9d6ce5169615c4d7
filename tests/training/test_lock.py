"""One trainer a run directory, and no lock that outlives its holder."""

import errno
import fcntl
import json
import multiprocessing
import os
import socket
import threading
import time

import pytest

from reelmill.errors import RequestError
from reelmill.training import lock
from reelmill.training.lock import LOCK, held_lock, live_holder


def _hold(run, ready, release):
    with held_lock(run):
        ready.set()
        release.wait(60)


@pytest.fixture
def holder(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_the_second_is_refused_and_told_who_is_first(tmp_path, holder):
    with (
        pytest.raises(RequestError, match=rf"process {holder.pid} on {socket.gethostname()}"),
        held_lock(tmp_path),
    ):
        pass
    assert holder.is_alive()


def holder_of(run):
    """What the newest of the lock files says; there is only one while the lock is held."""
    (path,) = run.glob(f"{LOCK}*")
    return json.loads(path.read_text())


def test_a_killed_holder_does_not_block(tmp_path, holder):
    holder.kill()
    holder.join()
    assert holder_of(tmp_path)["pid"] == holder.pid
    assert not live_holder(tmp_path)
    with held_lock(tmp_path):
        assert holder_of(tmp_path)["pid"] == os.getpid()
        assert str(os.getpid()) in live_holder(tmp_path)
    assert "pid" not in holder_of(tmp_path)
    assert not live_holder(tmp_path)
    with held_lock(tmp_path):
        assert holder_of(tmp_path)["pid"] == os.getpid()


def test_a_holder_on_another_machine_counts_while_it_gives_signs_of_life(tmp_path, monkeypatch):
    # As on a shared disk whose locks don't reach other machines: the file is there, the kernel's lock is not.
    path = tmp_path / LOCK
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7}))
    monkeypatch.setattr(lock, "_PATIENCE", 1.0)
    alive = threading.Event()

    def beat():
        while not alive.wait(0.1):
            path.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RequestError, match="process 7 on elsewhere"), held_lock(tmp_path):
            pass
    finally:
        alive.set()
        thread.join()
    with held_lock(tmp_path):
        assert holder_of(tmp_path)["host"] == socket.gethostname()


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    with held_lock(tmp_path):
        before = (tmp_path / LOCK).stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_lock_kept_for_a_lost_machine_does_not_block(tmp_path, holder, monkeypatch):
    """As when a server still holds the kernel's lock for a machine that is gone."""
    monkeypatch.setattr(lock, "_PATIENCE", 0.5)
    (tmp_path / LOCK).write_text(json.dumps({"host": "lost", "pid": 7}))
    with held_lock(tmp_path):
        assert holder_of(tmp_path)["pid"] == os.getpid()


def _train_at_once(run, name, go, end, results):
    """A start on a disk without the kernel's locks, on a machine of its own."""

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl.flock = none
    socket.gethostname = lambda: name
    lock._BEAT, lock._PATIENCE = 0.1, 5.0
    go.wait(60)
    try:
        with held_lock(run):
            results.put((name, "in"))
            end.wait(100)
    except RequestError as error:
        results.put((name, str(error)))


@pytest.mark.parametrize("before", ["a released lock", "a dead holder", "a holder killed at once"])
def test_of_many_starts_at_once_one_trains_though_the_disk_has_no_locks(tmp_path, before):
    if before == "a released lock":
        with held_lock(tmp_path):
            pass
    else:
        dead = json.dumps({"host": "lost", "pid": 7}) if before == "a dead holder" else ""
        (tmp_path / LOCK).write_text(dead)
    context = multiprocessing.get_context("fork")
    go, end, results = context.Barrier(6), context.Event(), context.Queue()
    names = [f"machine-{number}" for number in range(6)]
    starts = [
        context.Process(target=_train_at_once, args=(tmp_path, name, go, end, results)) for name in names
    ]
    for start in starts:
        start.start()
    said = [results.get(timeout=100) for _ in starts]
    end.set()
    for start in starts:
        start.join(60)
    (winner,) = [name for name, what in said if what == "in"]
    refused = [what for name, what in said if name != winner]
    assert len(refused) == 5
    assert all(f"on {winner} is training in this run directory" in what for what in refused)

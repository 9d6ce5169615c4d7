"""One trainer a run directory, and no lock that outlives its holder."""

import json
import multiprocessing
import os
import socket
import threading
import time

import pytest

from reelmill.errors import RequestError
from reelmill.training import lock
from reelmill.training.lock import LOCK, held_lock


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


def test_a_killed_holder_does_not_block(tmp_path, holder):
    holder.kill()
    holder.join()
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == holder.pid
    with held_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert (tmp_path / LOCK).read_text() == ""


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
        assert json.loads(path.read_text())["host"] == socket.gethostname()


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
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()

"""One at a time, whatever the disk has of locks and links."""

import errno
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from reelmill.lock import exclusive
from reelmill.songs.store.plan import create_plan
from tests.songs.store.test_plan import PLAN, grow_at_once

PROCESSES, TURNS = 4, 40


def _count(path: Path, barrier: Any) -> None:
    barrier.wait()
    for _ in range(TURNS):
        with exclusive(path.with_name(".lock")):
            value = int(path.read_text())
            time.sleep(0.0005)
            path.write_text(str(value + 1))


def test_no_turn_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    workers = [context.Process(target=_count, args=(path, barrier)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert int(path.read_text()) == PROCESSES * TURNS
    assert not list(tmp_path.glob(".lock*")), "and no lock is left"


def _die(path: Path) -> None:
    with exclusive(path):
        os._exit(9)


def test_a_dead_holder_is_outlived(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path / ".lock",))
    holder.start()
    holder.join()
    assert holder.exitcode == 9
    for _ in range(2):
        with exclusive(tmp_path / ".lock"):
            pass


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path / ".lock"):
            raise ZeroDivisionError


def test_a_plan_grows_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    create_plan(tmp_path, PLAN)
    assert grow_at_once(tmp_path).songs == 100

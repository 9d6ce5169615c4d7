"""Several processes on this machine without Slurm, through the same job file, exit codes and bounds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reelmill.cluster.local import run_here
from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import IncompleteError, RequestError

TWO = ClusterSettings(scheduler="local", tasks_per_node=2)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.json"
    facts = {
        "stage": "train",
        "directory": str(tmp_path / "run"),
        "max_starts_without_progress": 2,
        "first": 0,
    }
    path.write_text(json.dumps(facts))
    return path


def rank(directory: Path, body: str) -> list[str]:
    """The command of a rank: ``body`` is Python, with ``rank``, ``start`` (1, 2, …) and ``step(n)`` at
    hand.
    """
    program = f"""
import os, pathlib, signal, sys, time
here, rank = pathlib.Path({str(directory)!r}), int(os.environ["RANK"])
with (here / f"starts-{{rank}}").open("a") as file: file.write(os.environ["MASTER_PORT"] + "\\n")
start = len((here / f"starts-{{rank}}").read_text().split())
def step(number):
    place = here / "run" / "checkpoints" / f"step-{{number:06d}}"
    place.mkdir(parents=True, exist_ok=True); (place / "manifest.json").write_text("{{}}")
{body}
"""
    return [sys.executable, "-c", program]


def events(job: Path) -> list[str]:
    return [event["event"] for event in read_journal(job.with_name("journal-0.jsonl"))]


def test_every_rank_has_its_place(job: Path, tmp_path: Path) -> None:
    body = 'names = "RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT"\n'
    body += '(here / f"seen-{rank}").write_text(" ".join(os.environ[name] for name in names.split()))'
    run_here(job, TWO, rank(tmp_path, body))
    seen = [(tmp_path / f"seen-{number}").read_text().split() for number in (0, 1)]
    assert [place[:4] for place in seen] == [["0", "2", "0", "127.0.0.1"], ["1", "2", "1", "127.0.0.1"]]
    assert seen[0][4] == seen[1][4]
    assert events(job) == ["start", "end"]


def test_ranks_share_the_processors(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    body = "from reelmill.resources import processors\n"
    body += '(here / f"seen-{rank}").write_text(str(processors()))'
    run_here(job, TWO, rank(tmp_path, body))
    assert [(tmp_path / f"seen-{number}").read_text() for number in (0, 1)] == ["3", "3"]


def test_a_killed_rank_takes_the_others_down_and_all_start_again(job: Path, tmp_path: Path) -> None:
    body = """
if start == 1 and rank == 1: step(10); os.kill(os.getpid(), signal.SIGKILL)
if start == 1: time.sleep(600)
"""
    run_here(job, TWO, rank(tmp_path, body))
    assert events(job) == ["start", "requeue", "start", "end"]


def test_a_rank_deaf_to_everything_is_killed(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelmill.cluster.local._GRACE", 0.5)
    body = """
if start == 1 and rank == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (here / "deaf").touch()
    time.sleep(600)
if start == 1:
    while not (here / "deaf").exists(): time.sleep(0.01)
    step(10)
    sys.exit(1)
"""
    run_here(job, TWO, rank(tmp_path, body))
    assert events(job)[-1] == "end"


def test_no_progress_ends_it_with_the_reason(job: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="2 starts without progress"):
        run_here(job, TWO, rank(tmp_path, "sys.exit(1)"))
    assert events(job) == ["start", "requeue", "start", "end"]


def test_a_wrong_request_is_said_and_not_repeated(job: Path, tmp_path: Path) -> None:
    body = """
from reelmill.cluster.node import task
from reelmill.errors import RequestError
def work():
    if rank == 1: time.sleep(600)
    raise RequestError("model.layers = 0: at least 1")
task.run(work)
"""
    with pytest.raises(RequestError, match=r"model\.layers = 0"):
        run_here(job, TWO, rank(tmp_path, body))
    assert events(job) == ["start", "end"]


def test_a_signal_reaches_all_ranks_and_ends_it(job: Path, tmp_path: Path) -> None:
    body = """
def stop(*_): (here / f"stopped-{rank}").touch(); sys.exit(75 if rank == 0 else 0)
signal.signal(signal.SIGUSR1, stop); (here / f"ready-{rank}").touch(); time.sleep(600)
"""

    def send() -> None:
        while not all((tmp_path / f"ready-{number}").exists() for number in (0, 1)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(IncompleteError, match="the same command goes on from here"):
        run_here(job, TWO, rank(tmp_path, body))
    assert (tmp_path / "stopped-0").exists()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_signal_before_the_work_begins_ends_the_task_where_it_can_go_on(tmp_path: Path) -> None:
    program = """
import os, signal
from reelmill.cluster.node import task
task.run(lambda: os.kill(os.getpid(), signal.SIGUSR2) or True)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == 75


@pytest.mark.parametrize(("rank_number", "expected"), [("0", 75), ("1", 0)])
def test_only_the_first_rank_says_that_work_is_left(rank_number: str, expected: int) -> None:
    # The first bad exit ends all tasks, and rank 0 may be writing still.
    program = "from reelmill.cluster.node import task; task.run(lambda: False)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "RANK": rank_number}, timeout=60
    )
    assert done.returncode == expected


def test_work_that_is_left_ends_well_and_is_known_by_its_note(job: Path, tmp_path: Path) -> None:
    body = """
from reelmill.cluster.node import task
def work():
    step(10 * start)
    return start == 2
task.run(work)
"""
    run_here(job, TWO, rank(tmp_path, body))
    events = read_journal(job.with_name("journal-0.jsonl"))
    assert [(event["event"], event["status"]) for event in events] == [
        ("start", 0),
        ("requeue", 75),
        ("start", 0),
        ("end", 0),
    ]

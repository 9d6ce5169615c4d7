"""When a job is queued again: whatever ended it, as long as it makes progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cluster.node import requeue
from reelmill.cluster.node.requeue import BY_SLURM, counted_starts, decide, may_start, read_journal


@pytest.mark.parametrize("status", [1, 75, 137, 143])
def test_anything_but_done_and_wrong_is_queued_again(status: int) -> None:
    assert decide(status, False, starts=[0], now=100, limit=2).again


def test_a_notice_that_comes_before_python_is_up_is_a_stop_as_any_other() -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        assert decide(128 + number, False, [0], now=100, limit=2).reason.startswith("stopped as asked")
    assert "died" in decide(128 + signal.SIGKILL, False, [0], now=100, limit=2).reason


@pytest.mark.parametrize(("status", "ended_by_slurm"), [(0, False), (2, False), (75, True), (143, True)])
def test_done_wrong_and_cancelled_are_not(status: int, ended_by_slurm: bool) -> None:
    assert not decide(status, ended_by_slurm, starts=[0], now=100, limit=2).again


def test_two_starts_without_a_new_checkpoint_end_it_with_the_reason() -> None:
    assert decide(137, False, starts=[100], now=100, limit=2).again
    ended = decide(137, False, starts=[100, 100], now=100, limit=2)
    assert not ended.again
    assert "2 starts without progress (still at 100)" in ended.reason
    assert decide(137, False, starts=[100, 100], now=150, limit=2).again
    assert not may_start([100, 100], now=100, limit=2).again  # Slurm itself queued it again


def test_starts_that_slurm_ended_do_not_count() -> None:
    start, ended = {"event": "start", "progress": 0}, {"event": "end", "reason": BY_SLURM}
    died = {"event": "requeue", "reason": "its tasks died (exit code 1)"}
    assert counted_starts([start, ended] * 5) == []
    assert counted_starts([start, ended, start, died, start, ended, start]) == [0, 0]
    assert counted_starts([start, start]) == [0, 0]  # no last word: killed outright, or its node was lost


def test_a_chain_that_was_cancelled_says_so() -> None:
    ended = decide(1, False, starts=[0], now=0, limit=2, cancelled="the training of runs/a was cancelled")
    assert (ended.again, ended.reason) == (False, "cancelled: the training of runs/a was cancelled")


def test_a_wrong_request_of_one_rank_counts_though_others_were_killed() -> None:
    ended = decide(143, False, starts=[0], now=0, limit=2, refused="training.steps: too small")
    assert not ended.again
    assert "training.steps: too small" in ended.reason


def test_the_journal_tells_the_story(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = write_job(tmp_path, run)
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"}
    assert requeue.main(["before", str(job)], environment) == 0
    (run / "checkpoints" / "step-000040").mkdir(parents=True)
    assert requeue.main(["after", "137", str(job)], environment) == 0
    (run / "checkpoints" / "step-000040" / "manifest.json").write_text("{}")
    assert requeue.main(["before", str(job)], {**environment, "SLURM_RESTART_COUNT": "1"}) == 0
    assert requeue.main(["after", "0", str(job)], {**environment, "SLURM_RESTART_COUNT": "1"}) == 3
    events = read_journal(tmp_path / "journal-0.jsonl")
    assert [(event["event"], event["progress"], event["restart"]) for event in events] == [
        ("start", 0, 0),
        ("requeue", 0, 0),  # a checkpoint without its manifest is none
        ("start", 40, 1),
        ("end", 40, 1),
    ]


def test_tasks_that_all_ended_well_may_have_left_work(tmp_path: Path) -> None:
    job = write_job(tmp_path, tmp_path / "run")
    environment = {"SLURM_JOB_ID": "7"}
    for answer in (0, 1):  # the second start has made no progress either
        assert requeue.main(["before", str(job)], environment) == 0
        requeue.note_path(job, requeue.UNFINISHED, "").write_text("")
        assert requeue.main(["after", "0", str(job)], environment) == answer
    assert requeue.main(["before", str(job)], {"SLURM_JOB_ID": "8"}) == 0
    assert requeue.main(["after", "0", str(job)], {"SLURM_JOB_ID": "8"}) == 3  # the note is forgotten


def test_another_job_starts_counting_anew(tmp_path: Path) -> None:
    job = write_job(tmp_path, tmp_path / "run")
    for _ in range(2):
        assert requeue.main(["before", str(job)], {"SLURM_JOB_ID": "7"}) == 0
    assert requeue.main(["before", str(job)], {"SLURM_JOB_ID": "7"}) == 1
    assert requeue.main(["before", str(job)], {"SLURM_JOB_ID": "8"}) == 0


def test_shards_of_the_own_share_are_the_progress_of_a_task(tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    (songs / "text").mkdir(parents=True)
    job = write_job(tmp_path, songs, stage="generate", first=0, tasks=3)
    environment = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1"}
    requeue.main(["before", str(job)], environment)
    (songs / "text" / "shard-000002.json").write_text("{}")  # another task's
    requeue.main(["after", "1", str(job)], environment)
    (songs / "text" / "shard-000004.json").write_text("{}")
    requeue.main(["after", "1", str(job)], environment)
    assert [event["progress"] for event in read_journal(tmp_path / "journal-1.jsonl")] == [0, 0, 1]


def test_the_journal_names_the_log_of_the_rank_that_failed_first(tmp_path: Path) -> None:
    job = write_job(tmp_path, tmp_path / "songs", stage="generate", first=0, tasks=2)
    environment = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "1"}
    environment["REELMILL_LOG"] = "6_1_0_log.out"
    assert requeue.main(["before", str(job)], environment) == 0
    program = "from reelmill.cluster.node import task\ndef work(): raise ValueError('a bug')\ntask.run(work)"
    for rank in (3, 0):
        with (tmp_path / f"6_1_{rank}_log.out").open("w") as log:
            ranked = {**os.environ, **environment, "REELMILL_JOB": str(job), "RANK": str(rank)}
            command = [sys.executable, "-c", program]
            assert subprocess.run(command, stderr=log, env=ranked, timeout=60).returncode == 1
    assert "a bug" in (tmp_path / "6_1_3_log.out").read_text()
    requeue.main(["after", "1", str(job)], environment)
    requeue.main(["before", str(job)], environment)
    logs = [Path(event["log"]).name for event in read_journal(tmp_path / "journal-1.jsonl")]
    assert logs == ["6_1_0_log.out", "6_1_3_log.out", "6_1_0_log.out"]
    assert {event["name"] for event in read_journal(tmp_path / "journal-1.jsonl")} == {"6_1"}


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal-0.jsonl"
    path.write_text('{"event": "start"}\n{"event": "en')
    assert read_journal(path) == [{"event": "start"}]


def write_job(directory: Path, place: Path, **changes: object) -> Path:
    path = directory / "job.json"
    job = {"stage": "train", "directory": str(place), "max_starts_without_progress": 2, **changes}
    path.write_text(json.dumps(job))
    return path

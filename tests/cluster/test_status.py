"""How a run stands, from its files alone: no Slurm has to be there and no client alive."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelmill import config, durable
from reelmill.cluster.local import run_here
from reelmill.cluster.node.requeue import note
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.status.job_status import duration, jobs_of
from reelmill.cluster.status.run_status import run_status, steps_per_second
from reelmill.cluster.status.watch import has_failed, is_done, status, watch
from reelmill.errors import RequestError
from reelmill.lock import LEASE, LOCK, held_lock
from tests.cluster.conftest import Answers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 1000 steps at step 120, its last checkpoint at 100, whose first start died."""
    monkeypatch.setenv("PATH", "/nowhere")  # no Slurm
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step-000100"
    checkpoint.mkdir(parents=True)
    durable.write_json(checkpoint / "manifest.json", {})
    durable.write_json(checkpoint / "state.json", {"finished": False, "stopped_early": False})
    (run / "config.yaml").write_text(config.to_yaml(config.load(overrides=["training.steps=1000"])))
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(10, 130, 10):
            record: dict[str, Any] = {
                "kind": "train",
                "step": step,
                "bits_per_char": 2.5,
                "time": 5000.0 + step / 2,
            }
            if step == 100:
                record["validation_bits_per_char"] = 2.25
            file.write(json.dumps(record) + "\n")
        file.write('{"kind": "train", "st')  # being written
    folder = run / "logs" / "submissions" / "train-1"
    folder.mkdir(parents=True)
    durable.write_json(
        folder / "submission.json", {"stage": "train", "time": 1.0, "jobs": ["41"], "tasks": 1}
    )
    for event, restart, code in (("start", 0, 0), ("requeue", 0, 137), ("start", 1, 0)):
        tell(folder, "41", event, restart=restart, status=code)
    return run


def test_it_says_who_trains(run: Path, slurm_answers: Answers) -> None:
    slurm_answers()
    assert run_status(run).trainer == "" and "nobody is training" in run_status(run).describe()
    with held_lock(run):
        assert f"process {os.getpid()} on {socket.gethostname()} is training" in run_status(run).describe()
    assert "nobody is training" in run_status(run).describe()


def test_watching_ends_when_the_run_has_failed(run: Path, slurm_answers: Answers) -> None:
    tell(run / "logs" / "submissions" / "train-1", "41", "end", status=1, reason="2 starts without progress")
    slurm_answers(squeue="41|PENDING|BeginTime||0:00|9:00||")
    assert not has_failed(status(run))
    with held_lock(run):
        slurm_answers()
        assert not has_failed(status(run))
    assert has_failed(watch(run, seconds=0.01))
    command = [sys.executable, "-m", "reelmill.cli", "status", str(run)]
    for options in ([], ["--watch", "1"]):
        assert subprocess.run([*command, *options], capture_output=True, timeout=60).returncode == 1


def test_a_finished_run_shows_no_old_failure(run: Path, slurm_answers: Answers) -> None:
    log = run / "41_0_log.out"
    log.write_text("a bug\n")
    tell(run / "logs" / "submissions" / "train-1", "41", "end", status=1, log=str(log))
    slurm_answers()
    assert "a bug" in run_status(run).describe()
    state = run / "checkpoints" / "step-000100" / "state.json"
    durable.write_json(state, {"finished": True, "stopped_early": True})
    assert "a bug" not in run_status(run).describe()


def test_it_does_not_wait_for_signs_of_life(run: Path) -> None:
    """The kernel here knows nothing of a process elsewhere."""
    (run / LOCK).write_text(f"filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=a\nduration={LEASE}\n")
    told = run_status(run)
    assert told.trainer is None
    assert "training" not in told.describe()


def tell(folder: Path, name: str, event: str, journal: int = 0, **facts: object) -> None:
    """Add an event of job ``name`` to one of the journals in a submission's folder, as ``requeue`` does."""
    told = {"event": event, "job": name, "name": name, "restart": 0, "status": 0, "reason": "", "time": 1.0}
    note(folder / f"journal-{journal}.jsonl", {**told, **facts})


def test_what_a_person_asks(run: Path) -> None:
    seen = run_status(run, now=5100.0)
    assert (seen.step, seen.steps, seen.checkpoint, seen.finished) == (120, 1000, 100, False)
    assert seen.steps_per_second == pytest.approx(2.0)
    assert seen.seconds_left == pytest.approx(440.0)
    assert (seen.bits_per_char, seen.held_out_bits_per_char) == (2.5, 2.25)
    assert seen.jobs.requeues == 1
    told = seen.describe()
    for words in (
        "step 120 of 1000",
        "2.00 steps/s, 7 min left",
        "step 100",
        "held out 2.250",
        "job 41",
        "again 1",
    ):
        assert words in told
    assert json.loads(json.dumps(seen.to_json()))["jobs"]["jobs"][0]["job"] == "41"
    assert not is_done(seen)


def test_the_end_of_a_failing_log(run: Path) -> None:
    folder = run / "logs" / "submissions" / "train-1"
    log = folder / "41_2_log.out"
    tell(folder, "41", "end", status=1, reason="2 starts without progress", log=str(log))
    log.write_text("much\n" * 9999 + "CUDA out of memory\n")
    (folder / "411_0_log.out").write_text("another job's, and newer\n")
    told = run_status(run).describe()
    assert "FAILED (2 starts without progress)" in told
    assert f"the end of {log}:" in told and "CUDA out of memory" in told
    assert told.count("much") < 20


def test_a_later_submission_that_went_well_is_the_last_word(run: Path) -> None:
    first = run / "logs" / "submissions" / "train-1"
    log = first / "41_0_log.out"
    log.write_text("CUDA out of memory\n")
    tell(first, "41", "end", status=1, reason="died", log=str(log))
    assert "CUDA" in run_status(run).describe()
    tell(submission(run, "train", 2.0, "42"), "42", "end", reason="finished")
    assert "CUDA" not in run_status(run).describe()


def test_an_array_shows_the_element_that_failed(run: Path) -> None:
    array = submission(run, "generate", 2.0, "500", tasks=3)
    logs = [array / f"500_{element}_0_log.out" for element in range(3)]
    for element, log in enumerate(logs):
        log.write_text(f"the log of {element}\n")
        tell(array, f"500_{element}", "start", journal=element, log=str(log))
    tell(array, "500_0", "end", journal=0, status=1, time=2.0, reason="out of luck", log=str(logs[0]))
    tell(array, "500_1", "end", journal=1, time=3.0, reason="finished", log=str(logs[1]))
    seen = jobs_of(run)
    assert (seen.log, seen.log_end) == (str(logs[0]), "the log of 0")
    generating = seen.jobs[-1]
    assert (generating.state, generating.reason) == ("FAILED", "out of luck")
    assert generating.ends == {"FAILED": 1, "COMPLETED": 1, "not in the queue": 1}


def test_what_failed_is_shown_until_it_is_made_good(run: Path) -> None:
    """A collect job ends well when it has submitted again what is missing, and so nothing is good yet."""
    log = run / "500_0_0_log.out"
    log.write_text("killed\n")
    tell(submission(run, "generate", 2.0, "500", 2), "500_0", "end", status=1, reason="", log=str(log))
    tell(submission(run, "collect", 3.0, "501"), "501", "end", reason="finished")
    again, collect = submission(run, "generate", 4.0, "502", 2), submission(run, "collect", 5.0, "503")
    assert jobs_of(run).log == str(log)
    tell(again, "502_0", "end", reason="finished")
    assert jobs_of(run).log == ""
    tell(again, "502_1", "end", journal=1, status=1, reason="died", log=str(log))
    assert jobs_of(run).log == str(log)
    tell(collect, "503", "end", reason="finished")  # other tasks had taken its shards over
    assert jobs_of(run).log == ""


def test_without_a_last_word_accounting_says_how_it_ended(run: Path, slurm_answers: Answers) -> None:
    array = submission(run, "generate", 2.0, "500", tasks=4)
    log = array / "500_0_0_log.out"
    log.write_text("and then no more\n")
    tell(array, "500_0", "start", log=str(log))
    tell(array, "500_1", "start", journal=1)
    slurm_answers(sacct="41|RUNNING\n500_0|OUT_OF_MEMORY\n500_1|COMPLETED\n500_[2-3]|CANCELLED by 0\n")
    seen = jobs_of(run)
    assert (seen.jobs[-1].state, seen.log) == ("OUT_OF_MEMORY", str(log))
    assert seen.jobs[-1].ends == {"OUT_OF_MEMORY": 1, "COMPLETED": 1, "CANCELLED": 2}


def test_a_finished_run_is_watched_until_its_job_has_left_the_queue(
    run: Path, slurm_answers: Answers
) -> None:
    state = run / "checkpoints" / "step-000100" / "state.json"
    durable.write_json(state, {"finished": True, "stopped_early": True})
    slurm_answers(squeue="41|RUNNING|None|n1|1:00|9:00||\n")
    assert run_status(run).finished and not is_done(run_status(run))
    slurm_answers(sacct="41|COMPLETED\n")
    assert is_done(run_status(run))


def test_an_element_that_waits_to_be_started_again_has_not_failed(run: Path, slurm_answers: Answers) -> None:
    array = submission(run, "generate", 2.0, "500", tasks=2)
    log = array / "500_0_0_log.out"
    log.write_text("preempted\n")
    tell(array, "500_0", "end", status=143, reason="ended by Slurm", log=str(log))
    tell(array, "500_1", "end", journal=1, reason="finished")
    slurm_answers(squeue="500_0|PENDING|BeginTime||0:00|9:00||\n")
    seen = jobs_of(run)
    assert (seen.jobs[-1].state, seen.jobs[-1].ends) == ("PENDING", {"PENDING": 1, "COMPLETED": 1})
    assert seen.log == ""


def test_starts_without_slurm_are_counted_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job_file = run / "logs" / "submissions" / "train-1" / "job.json"
    job_file.parent.mkdir(parents=True)
    facts = {"stage": "train", "directory": str(run), "max_starts_without_progress": 3}
    durable.write_json(job_file, facts)
    once = f"import pathlib, sys; place = pathlib.Path({str(tmp_path / 'died')!r})\n"
    once += "if not place.exists(): place.touch(); sys.exit(1)"
    run_here(job_file, ClusterSettings(scheduler="local"), [sys.executable, "-c", once])
    seen = jobs_of(run)
    assert (seen.requeues, [job.state for job in seen.jobs]) == (1, ["COMPLETED"])
    assert "again 1" in run_status(run).describe()


def submission(directory: Path, stage: str, when: float, job: str, tasks: int = 1) -> Path:
    """The folder of another submission for ``directory``."""
    folder = directory / "logs" / "submissions" / f"{stage}-{job}"
    folder.mkdir()
    facts = {"stage": stage, "time": when, "jobs": [job], "tasks": tasks}
    durable.write_json(folder / "submission.json", facts)
    return folder


def test_a_finished_run_is_done(run: Path) -> None:
    durable.write_json(
        run / "checkpoints" / "step-000100" / "state.json", {"finished": True, "stopped_early": True}
    )
    assert is_done(run_status(run))


def test_a_wait_in_the_queue_is_no_part_of_the_rate() -> None:
    steps = [{"step": step, "time": float(step)} for step in range(1, 10)]
    steps += [{"step": step, "time": 5000.0 + step} for step in range(10, 15)]
    assert steps_per_second(steps, now=5020.0) == pytest.approx(1.0)
    assert steps_per_second(steps, now=50_000.0) is None


def test_any_other_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="neither a run nor a songs directory"):
        status(tmp_path)


def test_durations() -> None:
    assert [duration(value) for value in (42, 300, 11_400, 187_200)] == [
        "42 s",
        "5 min",
        "3 h 10 min",
        "2 d 4 h",
    ]

"""How a run stands, from its files alone: no Slurm has to be there and no client alive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reelmill import config, durable
from reelmill.cluster.requeue import note
from reelmill.cluster.status import duration, run_status, steps_per_second
from reelmill.cluster.watch import is_done, status
from reelmill.errors import RequestError


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
    for event, job, restart, code in (("start", 41, 0, 0), ("requeue", 41, 0, 137), ("start", 41, 1, 0)):
        note(
            folder / "journal-0.jsonl", {"event": event, "job": str(job), "restart": restart, "status": code}
        )
    return run


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
    end = {"event": "end", "job": "41", "restart": 1, "status": 1, "reason": "2 starts without progress"}
    note(folder / "journal-0.jsonl", end)
    (folder / "41_0_log.out").write_text("much\n" * 9999 + "CUDA out of memory\n")
    told = run_status(run).describe()
    assert "FAILED (2 starts without progress)" in told
    assert "CUDA out of memory" in told
    assert told.count("much") < 20


def test_a_later_submission_that_went_well_is_the_last_word(run: Path) -> None:
    first = run / "logs" / "submissions" / "train-1"
    note(
        first / "journal-0.jsonl", {"event": "end", "job": "41", "restart": 1, "status": 1, "reason": "died"}
    )
    (first / "41_0_log.out").write_text("CUDA out of memory\n")
    second = run / "logs" / "submissions" / "train-2"
    second.mkdir()
    durable.write_json(
        second / "submission.json", {"stage": "train", "time": 2.0, "jobs": ["42"], "tasks": 1}
    )
    note(
        second / "journal-0.jsonl",
        {"event": "end", "job": "42", "restart": 0, "status": 0, "reason": "finished"},
    )
    assert "CUDA" not in run_status(run).describe()


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

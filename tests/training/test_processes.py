"""Training in processes of their own: other numbers of them, and kills."""

import os
import random
import signal

import pytest
from training_runs import Trainers, assert_same

from reelmill.runs import find_checkpoint, verified
from reelmill.tracking.metrics import read_metrics
from reelmill.training.loop import train

STREAM = ("training.batches=stream",)
EXACT = (*STREAM, "training.accumulation=3")


def finish(world, run, overrides):
    results = Trainers(world, run, overrides).wait()
    assert all(result.get("finished") for result in results), results


@pytest.fixture(scope="module")
def alone(configured, tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    train(configured(*EXACT), run)
    return run


@pytest.mark.parametrize("world", [2, 3])
def test_weights_are_the_same_bits_in_any_number_of_processes(tiny, alone, tmp_path, world):
    finish(world, tmp_path / "run", tiny(*EXACT))
    assert_same(tmp_path / "run", alone, 24)


def test_more_processes_than_micro_batches_agree_to_rounding(tiny, configured, tmp_path):
    train(configured(*STREAM), tmp_path / "one")
    finish(4, tmp_path / "four", tiny(*STREAM))  # uneven: 1, 2, 1 and 2 of 6 rows
    one, four = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "four"))
    for key in ("loss", "validation_bits_per_char"):
        assert [r[key] for r in one if key in r] == pytest.approx(
            [r[key] for r in four if key in r], abs=1e-5
        )
    assert [record["batch"] for record in one] == [record["batch"] for record in four]


def test_a_resumed_run_of_several_equals_the_uninterrupted_one(tiny, tmp_path):
    """With fewer micro-batches than processes, at a world size whose sums DDP would reorder."""
    finish(3, tmp_path / "whole", tiny(*STREAM))
    stop_after(3, tmp_path / "run", tiny(*STREAM), 9, signal.SIGUSR1)
    finish(3, tmp_path / "run", tiny(*STREAM))
    assert_same(tmp_path / "run", tmp_path / "whole", 24)


def test_the_number_of_processes_may_change_on_the_way(tiny, alone, tmp_path):
    run = tmp_path / "run"
    stop_after(1, run, tiny(*EXACT), 5, signal.SIGTERM)
    stop_after(2, run, tiny(*EXACT), 11, signal.SIGUSR2)
    finish(1, run, tiny(*EXACT))
    assert_same(run, alone, 24)


def test_from_four_processes_to_three(tiny, configured, tmp_path):
    """Uneven shares of 6 rows, and neither number of processes sums as one process does."""
    recipe = (*STREAM, "training.steps=60")
    train(configured(*recipe), tmp_path / "one")
    run = tmp_path / "run"
    stop_after(4, run, tiny(*recipe), 20, signal.SIGTERM)
    stopped_at = find_checkpoint(run, "last").step
    assert 20 <= stopped_at < 60
    finish(3, run, tiny(*recipe))
    one, several = (read_metrics(place / "metrics.jsonl") for place in (tmp_path / "one", run))
    assert [record["step"] for record in several] == list(range(1, 61))
    assert [record["batch"] for record in several] == [record["batch"] for record in one]
    for key in ("loss", "validation_bits_per_char"):
        assert [record.get(key) for record in several] == pytest.approx(
            [record.get(key) for record in one], abs=1e-3
        )


def stop_after(world, run, overrides, step, number):
    """Ask one of the processes to stop when ``step`` is reached; all must agree and leave a checkpoint."""
    slow = [*overrides, "training.log_every=1"]
    trainers = Trainers(world, run, slow)
    trainers.wait_for_step(step)
    os.kill(trainers.processes[-1].pid, number)
    results = trainers.wait()
    assert len({result["step"] for result in results}) == 1, results
    if not results[0]["finished"]:
        assert results[-1]["stopped_by"] == signal.Signals(number).name
        verified(run, results[0]["step"])


@pytest.mark.parametrize("world", [1, 2])
def test_kills_leave_no_trace(tiny, configured, tmp_path, world):
    overrides = ("training.steps=80", "training.accumulation=2", "training.checkpoint_every=5")
    train(configured(*overrides), tmp_path / "whole")
    run = tmp_path / "run"
    chosen = random.Random(world)
    killed = 0
    for step in (3, 25, 50):
        trainers = Trainers(world, run, tiny(*overrides))
        trainers.wait_for_step(step + chosen.randrange(10))
        os.kill(chosen.choice(trainers.processes).pid, signal.SIGKILL)
        results = trainers.wait()
        killed += {} in results
        assert not all(result.get("finished") for result in results)
    assert killed == 3
    finish(world, run, tiny(*overrides))
    assert_same(run, tmp_path / "whole", 80)
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert steps == list(range(1, 81))


def test_a_second_trainer_is_refused_everywhere(tiny, tmp_path):
    run = tmp_path / "run"
    first = Trainers(1, run, tiny("training.steps=100000", "training.evaluate_every=0"))
    first.wait_for_step(1)
    for result in Trainers(2, run, tiny()).wait():
        assert result["error"] == "RequestError"
        assert f"process {first.processes[0].pid}" in result["message"]
    first.processes[0].terminate()
    assert first.wait()[0]["stopped_by"] == "SIGTERM"


def test_an_error_of_the_first_process_reaches_all(tiny, tmp_path):
    results = Trainers(2, tmp_path / "run", tiny("corpus.source=/nowhere/at/all.abc")).wait()
    assert [result["error"] for result in results] == ["RequestError"] * 2
    assert all("/nowhere/at/all.abc" in result["message"] for result in results)


def test_more_processes_than_rows(tiny, tmp_path):
    results = Trainers(2, tmp_path / "run", tiny("training.batch_size=1")).wait()
    assert all("training.batch_size = 1" in result["message"] for result in results)
    assert not (tmp_path / "run").exists()

"""Training in processes of their own: other numbers of them, and kills."""

import os
import random
import signal

import pytest
from training_runs import POINTER, Trainers, assert_same

from reelmill.lock import LEASE, LOCK
from reelmill.runs import find_checkpoint, verified
from reelmill.tracking.metrics import read_metrics
from reelmill.training import processes
from reelmill.training.loop import Trainer, train

STREAM = ("training.batches=stream",)
EXACT = (*STREAM, "training.exact=true", "training.batch_size=13", "training.accumulation=5")


def finish(world, run, overrides):
    results = Trainers(world, run, overrides).wait()
    assert all(result.get("finished") for result in results), results


@pytest.fixture(scope="module")
def alone(configured, tmp_path_factory):
    """An exact run of one process: 13 rows in micro-batches of 2 and 3."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train(configured(*EXACT), run)
    return run


@pytest.mark.parametrize("world", [2, 3, 4, 5])
def test_exact_weights_are_the_same_bits_in_any_number_of_processes(tiny, alone, tmp_path, world):
    finish(world, tmp_path / "run", tiny(*EXACT))
    assert_same(tmp_path / "run", alone, 24)


def test_exact_weights_of_a_pointer(tiny, configured, tmp_path):
    overrides = (*EXACT, *POINTER, "training.steps=8")
    train(configured(*overrides), tmp_path / "one")
    finish(3, tmp_path / "three", tiny(*overrides))
    assert_same(tmp_path / "one", tmp_path / "three", 8)


@pytest.mark.skipif(not processes.trains_in_bfloat16(), reason="this processor cannot train in bfloat16")
def test_exact_weights_in_bfloat16(tiny, configured, tmp_path):
    bfloat16 = (*EXACT, "training.precision=bf16", "training.steps=8")
    train(configured(*bfloat16), tmp_path / "one")
    finish(3, tmp_path / "three", tiny(*bfloat16))
    assert_same(tmp_path / "one", tmp_path / "three", 8)


def test_more_processes_than_micro_batches_are_refused_where_sums_are_exact(tiny, tmp_path):
    results = Trainers(3, tmp_path / "run", tiny("training.exact=true", "training.accumulation=2")).wait()
    assert all("set training.accumulation=3 or more" in result["message"] for result in results)


def test_inexact_weights_agree_to_rounding(tiny, configured, tmp_path):
    train(configured(*STREAM), tmp_path / "one")
    finish(4, tmp_path / "four", tiny(*STREAM))  # uneven: 1, 2, 1 and 2 of 6 rows
    one, four = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "four"))
    for key in ("loss", "validation_bits_per_char"):
        assert [r[key] for r in one if key in r] == pytest.approx(
            [r[key] for r in four if key in r], abs=1e-5
        )
    assert [record["batch"] for record in one] == [record["batch"] for record in four]


@pytest.mark.parametrize(
    ("world", "more"),
    [(2, ("training.accumulation=5",)), (3, ("training.accumulation=1",)), (4, ()), (3, POINTER)],
)
def test_a_resumed_run_of_several_equals_the_uninterrupted_one(tiny, tmp_path, world, more):
    """Three and more, where sums depend on how DDP lays out its buckets, and it does so anew when resumed."""
    overrides = tiny(*STREAM, *more)
    finish(world, tmp_path / "whole", overrides)
    stop_after(world, tmp_path / "run", overrides, 9, signal.SIGUSR1)
    finish(world, tmp_path / "run", overrides)
    assert_same(tmp_path / "run", tmp_path / "whole", 24)


def test_the_number_of_processes_may_change_on_the_way(tiny, alone, tmp_path):
    run = tmp_path / "run"
    stop_after(1, run, tiny(*EXACT), 5, signal.SIGTERM)
    stop_after(2, run, tiny(*EXACT), 11, signal.SIGUSR2)
    finish(5, run, tiny(*EXACT))
    assert_same(run, alone, 24)


@pytest.mark.parametrize("exact", ["training.exact=true", "training.exact=false"])
def test_a_gradient_that_is_no_number_ends_all_processes_without_a_checkpoint(tiny, tmp_path, exact):
    overrides = tiny(*EXACT, exact, "training.checkpoint_every=2", "training.evaluate_every=0")
    results = Trainers(2, tmp_path / "run", overrides, last_process_diverges).wait()
    for result in results:
        assert result["error"] == "RequestError"
        assert "at step 8: training diverged, with training.learning_rate = 0.002" in result["message"]
    assert find_checkpoint(tmp_path / "run", "last").step == 6


def last_process_diverges():
    """One gradient of one process is not a number, in the step from 7 to 8."""
    update = Trainer.update

    def diverging(self, batch):
        backward = self.accelerator.backward
        if self.progress.step == 7 and self.accelerator.process_index == 1:
            self.accelerator.backward = lambda loss: backward(loss * float("nan"))
        update(self, batch)

    Trainer.update = diverging


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
    overrides = ("training.steps=80", "training.exact=true", "training.checkpoint_every=5")
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
        for result in filter(None, results):  # who has outlived it
            assert result["error"] == "IncompleteError"
            assert "has lost another one" in result["message"]
            assert "the same command goes on from the last checkpoint" in result["message"]
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


def test_a_trainer_that_was_taken_for_dead_writes_nothing_more(tiny, tmp_path):
    """As one that was suspended for longer than others wait, and goes on when another trains."""
    run = tmp_path / "run"
    trainers = Trainers(2, run, tiny("training.steps=100000", "training.checkpoint_every=3"))
    trainers.wait_for_step(7)
    duration = f"duration={LEASE!r}"
    (run / "other").write_text(f"filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=a\n{duration}\n")
    (run / "other").rename(run / LOCK)
    last = read_metrics(run / "metrics.jsonl")[-1]["step"]
    first, _ = trainers.wait()
    assert first["error"] == "IncompleteError"
    assert "process 7 on elsewhere has taken over" in first["message"]
    assert read_metrics(run / "metrics.jsonl")[-1]["step"] <= last + 1  # one may have been on its way
    assert "elsewhere" in (run / LOCK).read_text()

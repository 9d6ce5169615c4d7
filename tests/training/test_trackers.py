"""What else follows a run is fed from the lines of metrics.jsonl; TensorBoard's own reader says what came."""

import os
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import Trainers

from reelmill.errors import RequestError
from reelmill.tracking.metrics import read_metrics
from reelmill.training.loop import train


def shown(run):
    """Steps and values of each curve, as TensorBoard shows them."""
    events = EventAccumulator(str(run / "trackers" / "reelmill"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_shows_each_line_of_the_metrics_once_whatever_was_killed(tiny, configured, tmp_path):
    overrides = ("tracking.also=[tensorboard]", "training.steps=60", "training.checkpoint_every=7")
    run = tmp_path / "run"
    for step in (10, 35):
        trainers = Trainers(2, run, tiny(*overrides))
        trainers.wait_for_step(step)
        os.kill(trainers.processes[0].pid, signal.SIGKILL)
        trainers.wait()
    assert train(configured(*overrides), run).finished
    curves = shown(run)
    for name in ("loss", "validation_bits_per_char", "learning_rate"):
        told = [
            (record["step"], record[name]) for record in read_metrics(run / "metrics.jsonl") if name in record
        ]
        assert [step for step, _ in curves[name]] == [step for step, _ in told]
        assert [value for _, value in curves[name]] == pytest.approx([value for _, value in told])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "'tensorbord' is no tracker of Accelerate; did you mean 'tensorboard'"),
        ("dvclive", r"'dvclive' is not installed \(pip install dvclive\)"),
        ("comet_ml", r"tracking\.comet"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_anything_is_made(configured, tmp_path, name, message):
    with pytest.raises(RequestError, match=message):
        train(configured(f"tracking.also=[{name}]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""Processes that wait for each other: no longer than there is hope, and not past a wish to stop."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
from training_runs import Trainers, assert_same

from reelmill.runs import newest_intact
from reelmill.training import data, loop, processes
from reelmill.training.loop import train

LONG = "training.steps=1000000"


def impatient():
    processes.TIMEOUT = timedelta(seconds=4)


def impatient_and_slow_to_set_up():
    impatient()
    prepare = loop.prepare_data

    def slowly(*arguments):
        time.sleep(10)
        return prepare(*arguments)

    loop.prepare_data = slowly


def endless_set_up():
    load_or_build = data.load_or_build

    def endlessly(settings):
        corpus = load_or_build(settings)
        (corpus.directory / f"waiting-{os.getpid()}").touch()
        while True:
            time.sleep(60)

    data.load_or_build = endlessly


def test_a_process_that_hangs_takes_the_others_down(tiny, tmp_path):
    trainers = Trainers(3, tmp_path / "run", tiny(LONG), impatient)
    trainers.wait_for_step(3)
    hanging = trainers.processes[1]
    os.kill(hanging.pid, signal.SIGSTOP)
    for process in (trainers.processes[0], trainers.processes[2]):
        process.join(60)
        assert not process.is_alive()
    hanging.kill()
    first, _, third = trainers.wait()
    assert "error" in first and "error" in third


def test_the_first_process_may_work_alone_for_longer(tiny, configured, tmp_path):
    results = Trainers(2, tmp_path / "run", tiny(), impatient_and_slow_to_set_up).wait()
    assert all(result.get("finished") for result in results), results


def test_a_first_process_that_hangs_in_set_up_takes_the_others_down(tiny, tmp_path):
    place = tmp_path / "corpus"
    trainers = Trainers(2, tmp_path / "run", tiny(f"corpus.directory={place}"), impatient_and_endless)
    wait_for_set_up(place)
    first, second = trainers.processes
    os.kill(first.pid, signal.SIGSTOP)
    second.join(60)
    assert not second.is_alive()
    first.kill()
    assert "error" in trainers.wait()[1]


def impatient_and_endless():
    impatient()
    endless_set_up()


@pytest.mark.parametrize(("processes", "asked"), [(1, 0), (2, 0), (2, 1)])
def test_a_stop_breaks_set_up_off_in_all(tiny, configured, tmp_path, processes, asked):
    place, run = tmp_path / "corpus", tmp_path / "run"
    overrides = tiny(f"corpus.directory={place}")
    trainers = Trainers(processes, run, overrides, endless_set_up)
    wait_for_set_up(place)
    os.kill(trainers.processes[asked].pid, signal.SIGUSR2)
    results = trainers.wait()
    assert [(result.get("finished"), result.get("step")) for result in results] == [(False, 0)] * processes
    assert results[asked]["stopped_by"] == "SIGUSR2"
    assert newest_intact(run) is None
    assert train(configured(f"corpus.directory={place}"), run).finished
    train(configured(f"corpus.directory={place}"), tmp_path / "undisturbed")
    assert_same(run, tmp_path / "undisturbed", 24)


def test_the_deadline_breaks_set_up_off(configured, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "prepare_data", lambda *_: time.sleep(1000))
    result = train(configured(), tmp_path / "run", deadline=time.time() + 1)
    assert (result.finished, result.step, result.stopped_by) == (False, 0, "deadline")


def wait_for_set_up(place: Path) -> None:
    end = time.monotonic() + 100
    while not list(place.glob("waiting-*")):
        assert time.monotonic() < end, "set-up does not begin"
        time.sleep(0.05)

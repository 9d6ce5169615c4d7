"""The same training, whoever starts it, said once; what a launcher asks is heeded or refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import Trainers, weights_bytes

from reelmill.errors import RequestError
from reelmill.training.loop import train
from reelmill.training.processes import refuse_launch, refuse_too_few_gpus
from reelmill.training.settings import TrainingSettings

PROGRAMS = Path(sys.executable).parent
TORCHRUN = [PROGRAMS / "torchrun", "--nproc-per-node", "2"]
ACCELERATE = [PROGRAMS / "accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--dynamo_backend", "no", "--mixed_precision"]


def launched(words, *arguments):
    """What ``words -m reelmill train`` ends with, on two processes of one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": ""}
    command = [*words, "-m", "reelmill", "train", *arguments]
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """A recipe in a file, and the weights that two processes come to."""
    place = tmp_path_factory.mktemp("two")
    recipe = place / "recipe.yaml"
    recipe.write_text("training:\n  batches: stream\n")
    overrides = tiny("training.batches=stream")
    assert all(result.get("finished") for result in Trainers(2, place / "run", overrides).wait())
    return recipe, overrides, weights_bytes(place / "run", 24)


@pytest.mark.parametrize("words", [TORCHRUN, [*ACCELERATE, "no"]], ids=["torchrun", "accelerate launch"])
def test_every_launcher_starts_the_same_training_and_it_is_said_once(two, tmp_path, words):
    recipe, overrides, weights = two
    done = launched(words, recipe, "--out", tmp_path / "run", *overrides)
    assert done.returncode == 0, done.stderr
    assert weights_bytes(tmp_path / "run", 24) == weights
    assert done.stdout.count("step 24 of 24") == 1
    assert done.stderr.count("training in 2 processes (gloo) on cpu, 3 of 6 rows each, float32") == 1


def test_one_process_that_a_launcher_started_comes_to_what_one_alone_does(two, configured, tmp_path):
    recipe, overrides, _ = two
    exact = ("training.exact=true", "training.accumulation=3", "training.steps=8")
    done = launched([*TORCHRUN[:-1], "1"], recipe, "--out", tmp_path / "run", *overrides, *exact)
    assert done.returncode == 0, done.stderr
    train(configured("training.batches=stream", *exact), tmp_path / "alone")
    assert weights_bytes(tmp_path / "run", 8) == weights_bytes(tmp_path / "alone", 8)


def test_an_error_that_all_processes_find_is_said_once(two, tmp_path):
    recipe, overrides, _ = two
    for wrong in ("training.stepz=3", "training.batch_size=1", "corpus.source=/nowhere/at/all.abc"):
        done = launched(TORCHRUN, recipe, "--out", tmp_path / "run", *overrides, wrong)
        assert done.returncode != 0
        assert done.stderr.count("reelmill: ") == 1, done.stderr


def test_what_accelerate_launch_is_told_is_refused_with_the_key_to_set(two, tmp_path):
    recipe, overrides, _ = two
    words = [*ACCELERATE, "bf16", "--gradient_accumulation_steps", "2"]
    done = launched(words, recipe, "--run", tmp_path / "run", *overrides)
    assert done.returncode != 0
    assert "set training.precision=bf16" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE = 2, and MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "7", "MASTER_ADDR": "here"}, r"training\.batch_size = 6 rows are too few for 7"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, r"set training\.precision=fp8"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, r"set training\.accumulation"),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"},
            "asked for several processes and has started one: on CPUs it starts them with --multi_gpu",
        ),
    ],
)
def test_launches_that_contradict_the_settings(environment, message):
    with pytest.raises(RequestError, match=message):
        refuse_launch(TrainingSettings(batch_size=6), environment)


def test_launches_that_agree():
    refuse_launch(TrainingSettings(), {})
    refuse_launch(TrainingSettings(precision="bf16"), {"ACCELERATE_MIXED_PRECISION": "bf16"})
    refuse_launch(TrainingSettings(precision="bf16"), {"ACCELERATE_MIXED_PRECISION": "no", "WORLD_SIZE": "1"})


def test_more_processes_than_gpus_are_refused():
    node = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}
    with pytest.raises(RequestError, match=r"4 processes and 2 GPUs \(CUDA_VISIBLE_DEVICES 0,1\)") as error:
        refuse_too_few_gpus(node, gpus=2)
    assert not error.value.said
    with pytest.raises(RequestError) as error:
        refuse_too_few_gpus({**node, "LOCAL_RANK": "3"}, gpus=2)
    assert error.value.said  # by the first process of the node
    refuse_too_few_gpus(node, gpus=4)
    refuse_too_few_gpus({}, gpus=1)

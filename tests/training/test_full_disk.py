"""Training on a disk that fills up, for real: a small file system in memory."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import weights_bytes

from reelmill import durable
from reelmill.errors import RequestError
from reelmill.runs import checkpoint_steps, newest_intact
from reelmill.tracking.metrics import MetricsLog, read_metrics
from reelmill.training.loop import train


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(kilobytes)`` gives the place of a file system of that size, and changes its size later."""
    place = tmp_path / "disk"
    mounted = []

    def sized(kilobytes):
        words = (
            ["-o", f"remount,size={kilobytes}k"] if mounted else ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
        )
        place.mkdir(exist_ok=True)
        made = subprocess.run(
            ["mount", *words, "tmpfs", str(place)], capture_output=True, timeout=60, check=False
        )
        if made.returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(place)
        return place

    yield sized
    if mounted:
        subprocess.run(["umount", "-l", str(place)], timeout=60, check=True)


@pytest.fixture(scope="module")
def undisturbed(configured, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(configured(), run)
    return run


# From "not even the settings fit" to "the last checkpoint does not".
@pytest.mark.parametrize("kilobytes", [4, 16, 32, 60, 100, 150, 200, 260, 320, 380])
def test_whatever_no_longer_fits_the_last_good_checkpoint_stays(
    tiny, configured, undisturbed, small_disk, kilobytes
):
    run = small_disk(kilobytes) / "run"
    command = [sys.executable, "-m", "reelmill", "train", str(_recipe(configured, run))]
    done = subprocess.run(
        [*command, "--run", str(run)], capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert f"reelmill clean {run}" in done.stderr or not run.exists()
    steps = checkpoint_steps(run)
    newest = newest_intact(run)
    assert (newest.step if newest else None) == (steps[-1] if steps else None)
    assert not [path for path in run.rglob("*") if durable.is_temporary(path)]
    small_disk(8192)
    assert train(configured(), run).finished
    assert weights_bytes(run, 24) == weights_bytes(undisturbed, 24)
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == list(range(1, 25))


def _recipe(configured, run):
    from reelmill.config import to_yaml

    recipe = run.parent.with_name("recipe.yaml")
    recipe.write_text(to_yaml(configured()))
    return recipe


def test_what_may_go_is_named_with_its_size(configured, undisturbed, small_disk, every_checkpoint):
    run = small_disk(4096) / "run"
    train(configured("training.steps=18"), run)
    used = 4 * int(_output("du", "-s", "--block-size=4096", str(run)).split()[0])
    small_disk(used + 24)
    with pytest.raises(RequestError) as error:
        train(configured(), run)
    message = str(error.value)
    old = re.findall(r"step-(\d{6}) \((\d+) kB\)", message)
    assert old and all(float(size) > 0 for _, size in old)
    state = newest_intact(run).state
    assert not {state["step"], state["best_step"]} & {int(step) for step, _ in old}
    for step, _ in old:
        subprocess.run(["rm", "-r", str(run / "checkpoints" / f"step-{step}")], check=True, timeout=60)
    small_disk(8192)
    assert train(configured(), run).finished
    assert weights_bytes(run, 24) == weights_bytes(undisturbed, 24)


def _output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_line_of_metrics_is_there_whole_or_not_at_all(small_disk):
    path = Path(small_disk(8)) / "metrics.jsonl"
    log = MetricsLog(path)
    written = 0
    with pytest.raises(RequestError, match=r"metrics\.jsonl: the disk is full"):
        for step in range(1000):
            log.append(step, loss=1 / 3)
            written += 1
    log.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(written))
    small_disk(64)
    assert log.append(written, loss=1 / 3)
    log.close()
    assert [record["step"] for record in read_metrics(path)] == list(range(written + 1))

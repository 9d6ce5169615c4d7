"""A task's exit code says what became of it, whatever the disk has room for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from reelmill.cluster.node.task import deadline
from reelmill.cluster.node.work import require_gpus
from reelmill.errors import IncompleteError

SCRIPT = """
from reelmill.cluster.node.task import run
from reelmill.durable import FullDiskError
def work():
    raise FullDiskError("runs/x")
run(work)
"""


def test_a_refusal_that_cannot_be_noted_is_no_crash(tmp_path: Path) -> None:
    environment = {**os.environ, "REELMILL_JOB": str(tmp_path / "no" / "such" / "place" / "job.json")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_gpus_that_torch_does_not_see_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(IncompleteError, match="gave this job 4 GPUs, but torch sees none"):
        require_gpus({"SLURM_GPUS_ON_NODE": "4"})
    require_gpus({})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    require_gpus({"SLURM_GPUS_ON_NODE": "4"})


def test_the_deadline_is_the_time_left_by_this_nodes_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 5000.0)  # a node whose clock is fifty years behind
    assert deadline({"warning": 120}, {"REELMILL_SECONDS_LEFT": "600"}) == 5480.0
    assert deadline({"warning": 120}, {"REELMILL_SECONDS_LEFT": ""}) is None

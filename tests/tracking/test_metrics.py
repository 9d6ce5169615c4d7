import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reelmill.errors import DamagedError
from reelmill.tracking.metrics import MetricsLog, read_metrics


def test_what_is_appended_is_read_back_by_another_reader(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.append(1, loss=2.5, device="cpu")
    log.append(1, kind="evaluation", bits_per_char=np.float32(1.5))
    expected = [
        {"kind": "train", "step": 1, "loss": 2.5, "device": "cpu"},
        {"kind": "evaluation", "step": 1, "bits_per_char": 1.5},
    ]
    assert log.read() == read_metrics(log.path) == expected
    assert read_metrics(tmp_path / "nothing.jsonl") == []


def test_a_run_cut_back_and_continued_has_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(1, 8):
        log.append(step, loss=1 / step)
    resumed = MetricsLog(path)
    resumed.cut_back(4)
    for step in range(4, 10):  # step 4 again, as a loop that repeats the checkpoint's own step would
        resumed.append(step, loss=1 / step)
    whole = MetricsLog(tmp_path / "whole.jsonl")
    for step in range(1, 10):
        whole.append(step, loss=1 / step)
    assert path.read_bytes() == whole.path.read_bytes()


def test_an_open_log_can_be_cut_back_and_goes_on(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append(step, loss=0.0)
        log.append(step, kind="evaluation", bits_per_char=0.0)
    log.cut_back(1)
    log.append(2, loss=0.5)
    assert [(record["kind"], record["step"]) for record in log.read()] == [
        ("train", 1),
        ("evaluation", 1),
        ("train", 2),
    ]


@pytest.mark.parametrize("cut_first", [True, False])
def test_a_torn_last_line_is_dropped_and_not_continued(tmp_path: Path, cut_first: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1, "loss": 1.0}\n{"kind": "train", "step": 2, "lo')
    assert [record["step"] for record in read_metrics(path)] == [1]
    log = MetricsLog(path)
    if cut_first:
        log.cut_back(2)
    log.append(2, loss=0.5)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_loss_that_is_not_a_number_stays_valid_json(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, loss=math.nan, bound=math.inf)
    assert log.read() == [{"kind": "train", "step": 1, "loss": None, "bound": None}]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\ngarbage\n{"kind": "train", "step": 2}\n')
    with pytest.raises(DamagedError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)


def test_every_record_survives_a_kill_right_after_its_append(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    code = (
        "import sys, itertools, pathlib; from reelmill.tracking.metrics import MetricsLog\n"
        "log = MetricsLog(pathlib.Path(sys.argv[1]))\n"
        "for step in itertools.count(1): log.append(step, loss=0.5); print(step, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        reported = [int(line) for line in process.stdout.read().splitlines() if line.strip()]
    steps = [record["step"] for record in read_metrics(path)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= (reported or [1])[-1]

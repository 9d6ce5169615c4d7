"""A task's exit code says what became of it, whatever the disk has room for."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from reelmill.cluster.task import run
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

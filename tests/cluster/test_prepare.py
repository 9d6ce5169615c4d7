"""The plain sbatch scripts, up to where they need a Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from reelmill.cluster.prepare import main

ROOT = Path(__file__).parents[2]


def array(first: int, last: int) -> dict[str, str]:
    """What Slurm tells an element of an array."""
    return {
        "SLURM_JOB_ID": "42",
        "SLURM_ARRAY_JOB_ID": "41",
        "SLURM_ARRAY_TASK_ID": str(first),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last),
    }


def test_an_array_that_does_not_begin_at_0_is_refused_by_the_script(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "slurm/generate.sbatch", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **array(1, 4), "REELMILL_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "--array=1-4: shares are counted from 0: use --array=0-3" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_elements_of_an_array_share_one_job_file(tmp_path: Path) -> None:
    assert [main(["generate", str(tmp_path)], {**array(0, 3), "SLURM_JOB_ID": job}) for job in "56"] == [0, 0]
    (file,) = tmp_path.rglob("job.json")
    job = json.loads(file.read_text())
    assert (job["first"], job["tasks"], job["directory"]) == (0, 4, str(tmp_path))


def test_a_single_job_takes_everything(tmp_path: Path) -> None:
    assert main(["generate", str(tmp_path)], {"SLURM_JOB_ID": "42"}) == 0
    (file,) = tmp_path.rglob("job.json")
    assert json.loads(file.read_text())["tasks"] == 1

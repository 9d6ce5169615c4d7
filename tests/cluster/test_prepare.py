"""The plain sbatch scripts, up to where they need a Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reelmill.cluster.environment import looks_secret, submission_environment
from reelmill.cluster.node.prepare import main

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


def test_training_without_its_corpus_names_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    tunes = "\n".join(f"X:{n}\nT:{n}\nM:4/4\nL:1/8\nK:G\n{'GABc' * n}|\n" for n in range(1, 40))
    (tmp_path / "tunes.abc").write_text(tunes)
    recipe.write_text(yaml.safe_dump({"corpus": {"source": str(tmp_path / "tunes.abc")}}))
    override = f"corpus.directory={tmp_path / 'corpus'}"
    assert main(["train", str(recipe), str(run), override], {"SLURM_JOB_ID": "42"}) == 2
    said = capsys.readouterr().err
    command = f"python -m reelmill.cluster.node.prepare corpus {recipe} {override}"
    assert command in said
    assert not run.exists()
    assert not (tmp_path / "corpus").exists()
    assert main(command.split()[3:]) == 0
    assert main(["train", str(recipe), str(run), override], {"SLURM_JOB_ID": "42"}) == 0
    assert len(list(run.rglob("job.json"))) == 1


@pytest.mark.parametrize("script", ["train", "generate"])
def test_what_the_scripts_hand_over_is_what_jobs_need_and_no_secret(script: str) -> None:
    (line,) = (
        line for line in (ROOT / "slurm" / f"{script}.sbatch").read_text().splitlines() if "--export=" in line
        and line.startswith("#SBATCH")
    )  # fmt: skip
    names = line.partition("=")[2].split(",")
    assert {*submission_environment(dict.fromkeys(names, "x")), "REELMILL_PYTHON"} == {*names}
    assert not any(map(looks_secret, names))
    needed = {
        "COMET_CONFIG",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "HF_HOME",
        "REELMILL_CACHE",
        "REELMILL_PYTHON",
    }
    assert needed <= {*names}


def test_submitting_from_within_a_job_hands_nothing_of_it_on(tmp_path: Path) -> None:
    (tmp_path / "sbatch").write_text('#!/bin/sh\necho "$@"\nenv\n')
    (tmp_path / "sbatch").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CPU_BIND": "mask_cpu:0x1", "SLURM_JOB_ID": "7",
        "SBATCH_PARTITION": "old", "SLURM_CONF": "/etc/slurm.conf",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "slurm/submit.sh", "--parsable", "slurm/train.sbatch", "a file.yaml"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    first, *seen = done.stdout.splitlines()
    assert first == "--parsable slurm/train.sbatch a file.yaml"
    assert [line for line in seen if line.startswith(("SLURM", "SBATCH"))] == ["SLURM_CONF=/etc/slurm.conf"]

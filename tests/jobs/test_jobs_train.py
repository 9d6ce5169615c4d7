"""What a person types: dry runs submit nothing, refusals have exit code 2 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text("training: {steps: 10}\n")
    return path


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **environment},
    )  # fmt: skip


def test_dry_run_prints_the_sbatch_file_and_leaves_nothing(recipe: Path, tmp_path: Path) -> None:
    cluster = ROOT / "configs/cluster/example-multinode.yaml"
    done = run("jobs.train", recipe, "--cluster", cluster, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for line in ("--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8", "--signal=USR2@180", "--requeue"):
        assert f"#SBATCH {line}" in lines
    assert "module load cuda/12.4 nccl" in lines
    assert lines.index("export NCCL_IB_HCA=mlx5") < next(
        i for i, line in enumerate(lines) if "PYTHONPATH" in line
    )
    assert any(line.startswith("srun ") and "submitit" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == [recipe.name]


def test_dry_run_of_a_night_shows_every_stage(recipe: Path, tmp_path: Path) -> None:
    cluster = ROOT / "configs/cluster/example-a100.yaml"
    done = run("jobs.overnight", recipe, "--cluster", cluster, "--tasks", 40, "--dry-run", cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if line.startswith("#####")] == [
        "##### train", "##### plan", "##### generate", "##### collect",
    ]  # fmt: skip
    assert "#SBATCH --array=0-39%32" in done.stdout
    assert done.stdout.count("#SBATCH --gpus-per-node=a100:1") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [recipe.name]


def test_dry_run_of_a_night_says_the_disk_and_every_array(recipe: Path, tmp_path: Path) -> None:
    cluster = ROOT / "configs/cluster/example-a100.yaml"
    options = ["--songs", 5000, "--tasks", 2500, "--dry-run", "audio.format=flac"]
    done = run("jobs.overnight", recipe, "--cluster", cluster, *options, cwd=tmp_path, PATH="/nowhere")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("# 5,000 songs take about ") and "are free at songs/tiny" in lines[0]
    assert "GB of sound (estimated from the settings)" in lines[0]
    assert "#SBATCH --array=0-833%11" in lines
    assert [line.split("--array=")[1] for line in lines if line.startswith("# part ")] == [
        "0-832%11",
        "0-832%10",
    ]


def test_dry_run_shows_one_task_a_job_where_training_has_several(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("{nodes: 2, tasks_per_node: 4, gpu_type: a100}")
    done = run("jobs.overnight", recipe, "--cluster", "cluster.yaml", "--dry-run", cwd=tmp_path)
    asked = [line for line in done.stdout.splitlines() if line.startswith("#SBATCH --n")]
    assert asked == ["#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4"] + 3 * [
        "#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=1"
    ]  # fmt: skip
    assert "generate: one task a job, so cluster.nodes = 2 is taken as 1" in done.stderr
    assert "gpus-per-node" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--cluster", ROOT / "configs/cluster/devcluster.yaml", "training.stepz=1"], "'training.steps'"),
        (["--cluster", ROOT / "configs/cluster/devcluster.yaml", "cluster.tiem=1"], "did you mean 'time'"),
    ],
)
def test_wrong_requests(recipe: Path, tmp_path: Path, arguments: list[object], said: str) -> None:
    done = run("jobs.train", recipe, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_slurm_it_says_so(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("jobs.train", recipe, "--cluster", ROOT / "configs/cluster/devcluster.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "submit from a machine that has Slurm's commands" in done.stderr

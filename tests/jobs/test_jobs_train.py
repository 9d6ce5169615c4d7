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


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--cluster", ROOT / "configs/cluster/devcluster.yaml", "training.stepz=1"], "did you mean 'steps'"),
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

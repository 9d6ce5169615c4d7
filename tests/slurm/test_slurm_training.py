"""Training under a real Slurm: whatever happens to it, it ends with the weights of the undisturbed run."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from devcluster import DevCluster, wait_until
from recipes import ROOT, start_job

from reelmill import durable
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.submission import submissions

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 300
CLUSTER = {"partition": "main", "nodes": 2, "tasks_per_node": 2, "time": 10, "warning": 30}
Train = Callable[..., str]
Undisturbed = Callable[[int], Path]


RECIPE = {
    "bars": 16,
    "model": {"hidden_size": 48, "dropout": 0.1},
    "training": {
        "steps": STEPS, "sequence_length": 48, "batches": "stream", "exact": True, "accumulation": 4,
        "checkpoint_every": 50, "keep_checkpoints": 1000, "evaluate_every": 150,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Undisturbed:
    """A run of so many steps by one process on this machine, without Slurm; it keeps every checkpoint."""
    run = recipe.parent / "undisturbed"

    def until(steps: int) -> Path:
        local = ROOT / "configs/cluster/local.yaml"
        jobs_train(recipe, local, run, "cluster.tasks_per_node=1", f"training.steps={steps}")
        return run

    return until


@pytest.fixture
def train(cluster: DevCluster, recipe: Path, tmp_path: Path) -> Train:
    """Submits a run into ``tmp_path/run``; gives the job's number."""

    def start(*overrides: str, **settings: object) -> str:
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump({**CLUSTER, **settings}))
        jobs_train(recipe, file, tmp_path / "run", *overrides)
        return str(submissions(tmp_path / "run")[-1]["jobs"][0])

    return start


def jobs_train(recipe: Path, cluster: Path, run: Path, *overrides: str) -> None:
    start_job("train", recipe, "--cluster", cluster, "--run", run, *overrides)


def journal(run: Path) -> list[dict[str, object]]:
    return read_journal(Path(submissions(run)[-1]["folder"]) / "journal-0.jsonl")


def assert_as_if_nothing_had_happened(run: Path, undisturbed: Undisturbed, steps: int = STEPS) -> None:
    expected = undisturbed(steps)
    weights = Path(f"checkpoints/step-{steps:06d}/model.safetensors")
    assert durable.sha256(run / weights) == durable.sha256(expected / weights)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(Counter((record["kind"], record["step"]) for record in records).values()) == 1
    kept = [
        record for record in map(json.loads, (expected / "metrics.jsonl").open()) if record["step"] <= steps
    ]
    assert _values(records, ("loss", "batch")) == _values(kept, ("loss", "batch"))


def _values(records: Sequence[dict[str, object]], names: Sequence[str]) -> list[list[object]]:
    return [[record["step"], *(record[name] for name in names)] for record in records]


@pytest.fixture(scope="module")
def quiet_run(cluster: DevCluster, recipe: Path) -> Path:
    """A run on the cluster that nothing happens to."""
    run, file = recipe.parent / "quiet", recipe.parent / "quiet.yaml"
    file.write_text(yaml.safe_dump(CLUSTER))
    jobs_train(recipe, file, run)
    assert cluster.wait_for_end(str(submissions(run)[-1]["jobs"][0])) == "COMPLETED"
    return run


def test_two_nodes_of_two_tasks(quiet_run: Path, undisturbed: Undisturbed) -> None:
    assert [(event["event"], event["reason"]) for event in journal(quiet_run)] == [
        ("start", ""),
        ("end", "finished"),
    ]
    assert_as_if_nothing_had_happened(quiet_run, undisturbed)


def test_preempted_by_a_higher_partition(
    cluster: DevCluster, train: Train, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    job = train()
    wait_until(lambda: newest_checkpoint(tmp_path / "run") >= 50, "its first checkpoint")
    node = cluster.slurm("squeue", "-h", "-j", job, "-o", "%N").replace("[", "").split("-")[0].split(",")[0]
    cluster.slurm("srun", "--partition=high", f"--nodelist={node}", "--exclusive", "--time=1", "sleep", "1")
    assert cluster.wait_for_end(job) == "COMPLETED"
    assert "requeue" in [event["event"] for event in journal(tmp_path / "run")]
    assert_as_if_nothing_had_happened(tmp_path / "run", undisturbed)


def test_one_rank_killed(cluster: DevCluster, train: Train, tmp_path: Path, undisturbed: Undisturbed) -> None:
    job = train()
    wait_until(lambda: newest_checkpoint(tmp_path / "run") >= 50, "its first checkpoint")
    os.kill(_process_of(job, rank=3), 9)
    assert cluster.wait_for_end(job) == "COMPLETED"
    assert [event["event"] for event in journal(tmp_path / "run")] == ["start", "requeue", "start", "end"]
    assert_as_if_nothing_had_happened(tmp_path / "run", undisturbed)


def test_a_node_lost(cluster: DevCluster, train: Train, tmp_path: Path, undisturbed: Undisturbed) -> None:
    job = train()
    wait_until(lambda: newest_checkpoint(tmp_path / "run") >= 50, "its first checkpoint")
    lost = _hosts(cluster, job)[-1]
    cluster.node("lose", lost)
    try:
        assert cluster.wait_for_end(job) == "COMPLETED"
    finally:
        cluster.node("start", lost)
    second = [event for event in journal(tmp_path / "run") if event["event"] == "start"][1]
    assert lost not in cluster.slurm("scontrol", "show", "hostnames", str(second["nodes"])).split()
    assert_as_if_nothing_had_happened(tmp_path / "run", undisturbed)


def test_time_limit_reached_again_and_again(
    cluster: DevCluster, train: Train, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    steps, requeues = STEPS, []
    train_for_a_minute = {"time": 1, "warning": 10, "tasks_per_node": 1, "max_starts_without_progress": 10}
    for _ in range(6):
        job = train(f"training.steps={steps}", **train_for_a_minute)
        assert cluster.wait_for_end(job, seconds=900) == "COMPLETED"
        requeues += [event["reason"] for event in journal(tmp_path / "run") if event["event"] == "requeue"]
        if requeues.count("stopped as asked") >= 2:
            break
        # Slurm's warning may come half a minute early, so a start has 20 to 45 seconds for steps.
        steps += 50 * int(_steps_per_second(tmp_path / "run") * 110 / 50)
    assert requeues.count("stopped as asked") >= 2
    # On a busy machine a start may have less than its minute needs to begin.
    assert set(requeues) <= {"stopped as asked", "stopped as asked, before it had begun"}
    assert_as_if_nothing_had_happened(tmp_path / "run", undisturbed, steps)


def _steps_per_second(run: Path) -> float:
    """How fast the run was in the best of its latest stretches: other tests may slow it now and then."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = [(record["step"], record["time"]) for record in records if record["kind"] == "train"][-100:]
    return max(
        (last - first) / (end - begin) for (first, begin), (last, end) in zip(times, times[10:], strict=False)
    )


def _hosts(cluster: DevCluster, job: str) -> list[str]:
    nodes = cluster.slurm("squeue", "-h", "-j", job, "-o", "%N")
    return cluster.slurm("scontrol", "show", "hostnames", nodes).split()


def _process_of(job: str, rank: int) -> int:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = process.joinpath("environ").read_bytes().split(b"\0")
            command = process.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        ours = (
            f"SLURM_JOB_ID={job}".encode() in environment and f"SLURM_PROCID={rank}".encode() in environment
        )
        if ours and b"submitit.core._submit" in command:
            return int(process.name)
    raise AssertionError(f"rank {rank} of job {job} does not run")

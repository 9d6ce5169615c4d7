"""What is believed of the queue, and what a person ends, on a real Slurm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import counting
import pytest
import yaml
from devcluster import DevCluster, wait_until
from recipes import ROOT, start_job

from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.status.cleaning import find_leftovers
from reelmill.cluster.status.job_status import jobs_of
from reelmill.cluster.submission import (
    Request,
    Submission,
    code_directory,
    refuse_second,
    submissions,
    submit,
)
from reelmill.errors import RequestError
from reelmill.lock import LEASE
from reelmill.songs.check.verify import verify
from reelmill.songs.store.manifest import shard_numbers

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Count = Callable[..., Submission]
LATER = ["--begin=now+1hour"]


@pytest.fixture
def count(cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def start(steps: int, **settings: Any) -> Submission:
        given = {"time": 5, "warning": 30, "pass_environment": ["PYTHONPATH"], **settings}
        request = Request("train", tmp_path / "run", {"steps": steps}, make=counting.CountingJob)
        submission = submit(request, ClusterSettings(**given))
        (tmp_path / "run" / "config.yaml").write_text("{}\n")
        return submission

    return start


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    reelmill("train", recipe, "--run", run)
    return run


def reelmill(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reelmill.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


def write_cluster(place: Path, **changes: Any) -> Path:
    file = place / "cluster.yaml"
    file.write_text(yaml.safe_dump({"time": 10, "warning": 30, **changes}))
    return file


def _has_lines(path: Path, number: int) -> bool:
    return path.exists() and len(path.read_text().splitlines()) >= number


def of_stage(directory: Path, stage: str) -> list[dict[str, Any]]:
    return [item for item in submissions(directory) if item["stage"] == stage]


@pytest.mark.parametrize(
    "variables",
    [{"SQUEUE_STATES": "RUNNING"}, {"SQUEUE_PARTITION": "high"}, {"SQUEUE_NAMES": "other"},
     {"SQUEUE_FORMAT": "%i", "SQUEUE_USERS": "nobody", "SLURM_BITSTR_LEN": "1"}],
)  # fmt: skip
def test_the_users_environment_does_not_blind_it(
    cluster: DevCluster, count: Count, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    submission = count(5, extra=LATER)
    run = submission.folder.parents[2]
    with monkeypatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        assert [job.state for job in jobs_of(run).jobs] == ["PENDING"]
        with pytest.raises(RequestError, match=f"job {submission.jobs[0]} is at it already"):
            refuse_second(run, "train")
        later = time.time() + 3600
        assert "code" not in {item.kind for item in find_leftovers(run, later).found}
    cluster.slurm("scancel", submission.jobs[0])


def test_a_job_whose_code_is_gone_fails(cluster: DevCluster, count: Count) -> None:
    submission = count(5, extra=["--hold"])
    shutil.rmtree(code_directory(submission.folder.parents[2]))
    cluster.slurm("scontrol", "release", submission.jobs[0])
    assert cluster.wait_for_end(submission.jobs[0]) == "FAILED"
    assert "the code of this job is gone" in next(submission.folder.glob("*_log.out")).read_text()


def test_requeues_before_the_first_checkpoint_do_not_use_up_its_starts(
    cluster: DevCluster, count: Count
) -> None:
    submission = count(400)
    (job,) = submission.jobs
    starts = submission.folder.parents[2] / "starts-0.jsonl"
    for number in range(1, 4):
        wait_until(partial(_has_lines, starts, number), "a start")
        shutil.rmtree(submission.folder.parents[2] / "checkpoints", ignore_errors=True)
        cluster.slurm("scontrol", "requeue", job)
    wait_until(lambda: newest_checkpoint(submission.folder.parents[2]), "its first checkpoint")
    assert cluster.wait_for_end(job) == "COMPLETED"
    events = read_journal(submission.folder / "journal-0.jsonl")
    assert [event["event"] for event in events].count("start") == 4


def test_a_cancelled_array_is_not_submitted_again(cluster: DevCluster, trained: Path, tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    file = write_cluster(tmp_path, generate={"extra": LATER})
    start_job(
        "generate", trained, "--songs", 40, "--out", songs, "--tasks", 2, "--cluster", file, "--no-audio"
    )
    (array,), (collect,) = of_stage(songs, "generate"), of_stage(songs, "collect")
    cluster.slurm("scancel", array["jobs"][0])
    cluster.wait_for_end(collect["jobs"][0])
    assert len(of_stage(songs, "generate")) == 1
    last = read_journal(Path(collect["folder"]) / "journal-0.jsonl")[-1]
    assert last["event"] == "end" and last["reason"].startswith("cancelled: the array")
    assert {job.stage: job.state for job in jobs_of(songs).jobs} == {
        "generate": "CANCELLED",
        "collect": "CANCELLED",
    }


def test_an_array_that_failed_is_submitted_again_wherever_the_songs_lie(
    cluster: DevCluster, trained: Path, tmp_path: Path
) -> None:
    """They lie in the temporary directory, which a node takes for its own."""
    songs, go = tmp_path / "songs", tmp_path / "go"
    file = write_cluster(
        tmp_path, generate={"setup": [f"[ -e {go} ] || exit 1"]}, collect={"setup": [f"touch {go}"]}
    )
    start_job(
        "generate", trained, "--songs", 40, "--out", songs, "--tasks", 2, "--cluster", file, "--no-audio"
    )
    collect = of_stage(songs, "collect")[0]
    assert cluster.wait_for_end(collect["jobs"][0]) == "COMPLETED"
    again = of_stage(songs, "collect")[-1]
    assert again["folder"] != collect["folder"]
    assert cluster.wait_for_end(again["jobs"][0]) == "COMPLETED"
    assert verify(songs).intact and (songs / "report.html").is_file()


@pytest.mark.parametrize("named", ["run", "songs"])
def test_stop_ends_a_whole_night(cluster: DevCluster, recipe: Path, tmp_path: Path, named: str) -> None:
    run, songs = tmp_path / "run", tmp_path / "songs"
    night = ["overnight", recipe, "--run", run, "--out", songs, "--songs", 40, "--tasks", 2, "--no-audio"]
    start_job(*night, "--cluster", write_cluster(tmp_path), "training.steps=100000")
    wait_until(lambda: newest_checkpoint(run), "its first checkpoint")
    jobs = [job for place in (run, songs) for item in submissions(place) for job in item["jobs"]]
    told = reelmill("stop", tmp_path / named)
    assert told.returncode == 0, told.stderr
    assert len(jobs) == 4 and all(f"ended job {job}" in told.stdout for job in jobs)
    assert {cluster.wait_for_end(job) for job in jobs} == {"CANCELLED"}
    assert "no job is in the queue" in reelmill("stop", tmp_path / named).stdout
    for place in (run, songs):
        assert {job.state for job in jobs_of(place).jobs} == {"CANCELLED"}


def test_a_trainer_that_was_suspended_writes_nothing_once_another_has_the_run(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    steps = "training.steps=3000"
    start_job("train", recipe, "--run", run, "--cluster", write_cluster(tmp_path), steps)
    (job,) = submissions(run)[0]["jobs"]
    wait_until(lambda: newest_checkpoint(run), "its first checkpoint")
    cluster.slurm("scontrol", "suspend", job)
    time.sleep(LEASE + 5)
    done = reelmill("train", recipe, "--run", run, steps)
    assert done.returncode == 0, done.stderr
    metrics = (run / "metrics.jsonl").read_bytes()
    cluster.slurm("scontrol", "resume", job)
    cluster.wait_for_end(job)
    assert (run / "metrics.jsonl").read_bytes() == metrics
    records = [json.loads(line) for line in metrics.splitlines()]
    trained = [record["step"] for record in records if record["kind"] == "train"]
    assert len(trained) == len(set(trained)) and newest_checkpoint(run) == 3000


def test_a_path_that_slurm_would_read_otherwise_is_refused(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    for name in ("%a", "run-%x", "100%"):
        command = [sys.executable, "-m", "jobs.train", recipe, "--run", tmp_path / name]
        command += ["--cluster", write_cluster(tmp_path)]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, cwd=ROOT)
        assert done.returncode == 2 and f"{name}: " in done.stderr and "'%'" in done.stderr
        assert not (tmp_path / name).exists()


def test_a_shard_is_made_before_its_array_is_stopped_and_stays(
    cluster: DevCluster, trained: Path, tmp_path: Path
) -> None:
    songs = tmp_path / "songs"
    arguments = ["--songs", 4000, "--out", songs, "--tasks", 2, "--cluster", write_cluster(tmp_path)]
    start_job("generate", trained, *arguments, "--no-audio")
    wait_until(lambda: shard_numbers(songs, "text"), "the first shard")
    assert reelmill("stop", songs).returncode == 0
    for item in submissions(songs):
        cluster.wait_for_end(item["jobs"][0])
    made = {path: path.read_bytes() for path in (songs / "text").glob("shard-*.json")}
    assert 0 < len(made) < 400
    start_job("generate", trained, *arguments, "--no-audio")
    assert cluster.wait_for_end(of_stage(songs, "collect")[-1]["jobs"][0]) == "COMPLETED"
    assert verify(songs).intact and {path: path.read_bytes() for path in made} == made

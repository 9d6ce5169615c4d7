"""How jobs end and go on under a real Slurm, whatever ends them. No training here: a job that counts."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counting
import pytest
from devcluster import DevCluster, wait_until

import reelmill
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.status.cleaning import find_leftovers
from reelmill.cluster.submission import Request, Submission, batch_script, refuse_second, submit
from reelmill.errors import RequestError

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SETTINGS = ClusterSettings(
    nodes=2, tasks_per_node=2, time=5, warning=30, pass_environment=["PYTHONPATH", "REELMILL_TEST"]
)
Count = Callable[..., Submission]


@pytest.fixture
def count(cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def start(settings: ClusterSettings = SETTINGS, **facts: Any) -> Submission:
        return submit(request(tmp_path / "run", **facts), settings)

    return start


def request(directory: Path, **facts: Any) -> Request:
    return Request("train", directory, facts, make=counting.CountingJob)


def events(submission: Submission) -> list[tuple[str, str]]:
    journal = read_journal(submission.folder / "journal-0.jsonl")
    return [(event["event"], event["reason"]) for event in journal]


def starts(submission: Submission, rank: int = 0) -> list[dict[str, Any]]:
    path = submission.folder.parents[2] / f"starts-{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_ranks_find_their_places_and_no_secret(
    cluster: DevCluster, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMET_API_KEY", "sesame")
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,mask_cpu:0x1")
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    monkeypatch.setenv("REELMILL_TEST", "passed on")
    submission = count(steps=5)
    assert cluster.wait_for_end(submission.jobs[0]) == "COMPLETED"
    seen = [starts(submission, rank)[0]["environment"] for rank in range(4)]
    assert [place["LOCAL_RANK"] for place in seen] == ["0", "1", "0", "1"]
    assert {place["WORLD_SIZE"] for place in seen} == {"4"}
    assert len({(place["MASTER_ADDR"], place["MASTER_PORT"]) for place in seen}) == 1
    assert seen[0]["REELMILL_TEST"] == "passed on"
    assert "sesame" not in json.dumps(seen)
    assert not [name for name in seen[0] if name == "SLURM_CPU_BIND" and seen[0][name].endswith("0x1")]
    spooled = b"".join(path.read_bytes() for path in cluster.directory.rglob("environment") if path.is_file())
    assert b"sesame" not in spooled


def test_the_code_of_submission_runs(cluster: DevCluster, count: Count, tmp_path: Path) -> None:
    extra = Path(reelmill.__file__).parent / "cluster" / "uncommitted_for_a_test.py"
    extra.write_text("")
    try:
        submission = count(steps=5)
    finally:
        extra.unlink()  # gone before the job starts, there all the same
    cluster.wait_for_end(submission.jobs[0])
    paths = starts(submission)[0]["environment"]["PYTHONPATH"].split(os.pathsep)
    assert (Path(paths[0]) / "reelmill" / "cluster" / extra.name).exists()
    assert tmp_path in Path(paths[0]).parents


def test_code_is_cleaned_away_once_its_job_has_left_the_queue(
    cluster: DevCluster, count: Count, tmp_path: Path
) -> None:
    submission = count(dataclasses.replace(SETTINGS, extra=["--begin=now+1hour"]), steps=5)
    in_an_hour = time.time() + 3600
    waiting = find_leftovers(tmp_path / "run", in_an_hour)
    assert (waiting.found, "a job in the queue" in waiting.describe()) == ([], True)
    cluster.slurm("scancel", submission.jobs[0])
    cluster.wait_for_end(submission.jobs[0])
    assert [item.kind for item in find_leftovers(tmp_path / "run", in_an_hour).found] == ["code"]


def test_dry_run_is_what_is_submitted(cluster: DevCluster, count: Count, tmp_path: Path) -> None:
    printed = batch_script(request(tmp_path / "run", steps=5), SETTINGS)
    submission = count(steps=5)
    submitted = next(submission.folder.glob("*_submission.sh")).read_text()
    expected = [line for line in printed.splitlines() if "submissions/" not in line]
    assert expected == [line for line in submitted.splitlines() if "submissions/" not in line]
    cluster.slurm("scancel", submission.jobs[0])


def test_a_wrong_request_is_not_repeated(cluster: DevCluster, count: Count) -> None:
    submission = count(steps=50, fault="request", at=5)
    assert cluster.wait_for_end(submission.jobs[0]) == "FAILED"
    assert events(submission) == [
        ("start", ""),
        ("end", "the request is wrong: training.steps: no such thing"),
    ]


def test_a_wrong_request_found_by_one_rank_ends_all(cluster: DevCluster, count: Count) -> None:
    submission = count(steps=50, fault="request of one rank", at=5)
    assert cluster.wait_for_end(submission.jobs[0]) == "FAILED"
    assert [event for event, _ in events(submission)] == ["start", "end"]


def test_no_progress_ends_it_with_the_reason(cluster: DevCluster, count: Count) -> None:
    submission = count(steps=50, fault="error", at=15)
    assert cluster.wait_for_end(submission.jobs[0]) == "FAILED"
    assert [event for event, _ in events(submission)][:4] == ["start", "requeue", "start", "requeue"]
    assert events(submission)[-1][0] == "end"
    assert events(submission)[-1][1].startswith("2 starts without progress")
    assert len(starts(submission)) == 3


def test_a_cancelled_job_stays_cancelled(cluster: DevCluster, count: Count) -> None:
    submission = count(steps=2000)
    wait_until(lambda: newest_checkpoint(submission.folder.parents[2]), "its first checkpoint")
    with pytest.raises(RequestError, match=f"job {submission.jobs[0]} is at it already"):
        refuse_second(submission.folder.parents[2], "train")
    cluster.slurm("scancel", submission.jobs[0])
    assert cluster.wait_for_end(submission.jobs[0]) == "CANCELLED"
    refuse_second(submission.folder.parents[2], "train")
    assert events(submission)[-1][0] == "end"


def test_a_job_that_hears_nothing_goes_on_after_its_time_limit(cluster: DevCluster, count: Count) -> None:
    settings = dataclasses.replace(SETTINGS, time=1, warning=10)
    submission = count(settings, steps=60, fault="deaf", at=35)
    # It is deaf in its second start too, and then has not moved.
    wait_until(lambda: len(starts(submission)) == 2, "its second start")
    assert starts(submission)[1]["step"] == 30
    cluster.slurm("scancel", submission.jobs[0])
    cluster.wait_for_end(submission.jobs[0])

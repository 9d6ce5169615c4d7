"""How elements of an array end and go on under a real Slurm: each by itself, as jobs do. They only count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counting
import pytest
from devcluster import DevCluster, wait_until

from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.status.job_status import jobs_of
from reelmill.cluster.submission import Request, Submission, submit

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Count = Callable[..., Submission]


@pytest.fixture
def count(cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def start(settings: dict[str, Any], tasks: int, **facts: Any) -> Submission:
        cluster_settings = ClusterSettings(pass_environment=["PYTHONPATH"], **settings)
        request = Request("generate", tmp_path / "songs", facts, tasks, counting.CountingShare)
        return submit(request, cluster_settings)

    return start


def events(submission: Submission, element: int) -> list[tuple[str, str]]:
    journal = read_journal(submission.folder / f"journal-{element}.jsonl")
    return [(event["event"], event["reason"]) for event in journal]


def begun_at(submission: Submission, element: int) -> list[int]:
    """The step that each start of an element found."""
    path = submission.folder.parents[2] / f"starts-{element}.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def test_elements_go_on_after_their_time_limit(cluster: DevCluster, count: Count) -> None:
    """Each has a minute of work and a bit in steps, of which a start of a minute is given less."""
    submission = count({"time": 1, "warning": 10}, tasks=2, steps=1250)
    assert cluster.wait_for_end(submission.jobs[0], seconds=400) == "COMPLETED"
    for element in range(2):
        story = events(submission, element)
        assert story[:2] == [("start", ""), ("requeue", "stopped as asked")]
        assert story[-1] == ("end", "finished")
        assert [event for event, _ in story].count("start") == len(begun_at(submission, element)) >= 2
        assert begun_at(submission, element)[0] == 0 < begun_at(submission, element)[1]
    seen = jobs_of(submission.folder.parents[2])
    assert seen.jobs[0].state == "COMPLETED" and seen.jobs[0].ends == {"COMPLETED": 2}
    assert seen.requeues >= 2 and not seen.log


def test_elements_that_are_signalled_go_on_beside_one_that_fails(cluster: DevCluster, count: Count) -> None:
    submission = count({"time": 5, "warning": 30}, tasks=3, steps=400, fault="error", at=15, faulty=1)
    array, songs = submission.jobs[0], submission.folder.parents[2]
    wait_until(lambda: begun_at(submission, 0) and begun_at(submission, 2), "their first starts")
    wait_until(lambda: len(list((songs / "text").glob("*"))) >= 6, "their first shards")
    cluster.slurm("scancel", "--signal=TERM", f"{array}_0")
    cluster.slurm("scancel", "--signal=USR2", f"{array}_2")
    cluster.wait_for_end(array)
    for element in (0, 2):
        assert events(submission, element) == [
            ("start", ""),
            ("requeue", "stopped as asked"),
            ("start", ""),
            ("end", "finished"),
        ]
        assert begun_at(submission, element)[1] > 0
    assert events(submission, 1)[-1][1].startswith("2 starts without progress")

    seen = jobs_of(songs)
    (job,) = seen.jobs
    assert (job.state, job.ends) == ("FAILED", {"COMPLETED": 2, "FAILED": 1})
    assert Path(seen.log).name == f"{array}_1_0_log.out"
    assert "a bug" in seen.log_end and "not queued again: 2 starts without progress" in seen.log_end

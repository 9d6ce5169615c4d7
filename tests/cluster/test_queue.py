"""What is asked of Slurm is answered as it was asked, and no answer is not "no"."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.cluster import queue
from reelmill.cluster.snapshot import take_snapshot
from reelmill.cluster.status.cleaning import find_leftovers
from reelmill.cluster.status.job_status import describe_jobs, jobs_of
from reelmill.cluster.submission import code_directory, queued, refuse_second
from reelmill.errors import IncompleteError, RequestError

OTHER = os.getuid() + 1


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "programs"
    place.mkdir()
    program(place, "sacct", "exit 1")
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    return place


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose job 41 was submitted."""
    submit(tmp_path / "run", ["41"], os.getuid())
    (tmp_path / "run" / "config.yaml").write_text("{}\n")
    return tmp_path / "run"


def program(place: Path, name: str, body: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{body}\n")
    (place / name).chmod(0o755)


def submit(run: Path, jobs: list[str], user: int) -> Path:
    folder = run / "logs" / "submissions" / "train-1"
    folder.mkdir(parents=True, exist_ok=True)
    code = take_snapshot(code_directory(run))
    facts = {"stage": "train", "time": 1.0, "jobs": jobs, "tasks": 1, "user": user, "code": str(code)}
    durable.write_json(folder / "submission.json", facts)
    return folder


def test_options_in_the_environment_do_not_reach_slurms_programs(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "squeue", "env")
    for name in ("SQUEUE_STATES", "SACCT_FORMAT", "SBATCH_PARTITION", "SLURM_TIME_FORMAT", "SINFO_ALL"):
        monkeypatch.setenv(name, "seen")
    monkeypatch.setenv("SLURM_CONF", "/etc/its/slurm.conf")
    told = queue.ask("squeue")
    assert "=seen" not in told
    assert "SLURM_CONF=/etc/its/slurm.conf" in told


def test_no_answer_is_not_no(run: Path, programs: Path) -> None:
    program(
        programs, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    with pytest.raises(IncompleteError, match=r"is not known, so nothing is submitted: .*controller"):
        refuse_second(run, "train")
    left = find_leftovers(run, time.time() + 3600)
    assert "code" not in {item.kind for item in left.found}
    seen = jobs_of(run)
    assert [job.state for job in seen.jobs] == ["not known"] and seen.more_to_come
    assert any("not known: squeue failed" in line for line in describe_jobs(seen))


def test_a_job_of_a_colleague_counts(run: Path, programs: Path) -> None:
    submit(run, ["41"], OTHER)
    program(programs, "scontrol", "echo 'PrivateData = none'")
    asked = f"{os.getuid()},{OTHER}"
    program(
        programs, "squeue", f'case "$*" in *"-u {asked} "*) echo "41|RUNNING|None|n1|1:00|9:00||" ;; esac'
    )
    with pytest.raises(RequestError, match="job 41 is at it already"):
        refuse_second(run, "train")


def test_a_colleagues_job_that_slurm_hides_is_not_known(run: Path, programs: Path) -> None:
    submit(run, ["41"], OTHER)
    program(programs, "scontrol", "echo 'PrivateData = accounts,jobs'")
    program(programs, "squeue", "true")
    with pytest.raises(IncompleteError, match=f"user {OTHER}.*PrivateData = jobs"):
        refuse_second(run, "train")


def test_a_job_whose_number_sbatch_never_told_is_found(run: Path, programs: Path) -> None:
    folder = submit(run, [], os.getuid())
    program(programs, "squeue", f"echo '52|PENDING|Priority||0:00|9:00||{folder}/submission_file.sh'")
    assert [job.job for job in queued(run)] == ["52"]
    left = find_leftovers(run, time.time() + 3600)
    assert "code" not in {item.kind for item in left.found}


def test_a_status_asks_squeue_and_sacct_once_for_all_jobs(run: Path, programs: Path) -> None:
    for name in ("squeue", "sacct"):
        program(programs, name, f"echo {name} >> {programs}/asked")
    for number in range(42, 45):
        folder = run / "logs" / "submissions" / f"train-{number}"
        folder.mkdir()
        facts = {"stage": "train", "time": 1.0, "jobs": [str(number)], "tasks": 1, "user": os.getuid()}
        durable.write_json(folder / "submission.json", facts)
    assert len(jobs_of(run).jobs) == 4
    assert sorted((programs / "asked").read_text().split()) == ["sacct", "squeue"]

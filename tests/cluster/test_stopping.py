"""``reelmill stop`` ends what belongs to a run or to songs, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.cluster.stopping import stop
from reelmill.errors import IncompleteError, RequestError
from reelmill.lock import held_lock


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """squeue prints the file ``queue``, scancel notes what it is given in ``cancelled``."""
    place = tmp_path / "programs"
    place.mkdir()
    for name, body in (("squeue", f"cat {place}/queue"), ("scancel", f'echo "$@" > {place}/cancelled')):
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    return place


def submitted(directory: Path, stage: str, job: str) -> Path:
    folder = directory / "logs" / "submissions" / f"{stage}-20261125-053500-00{job}"
    folder.mkdir(parents=True)
    facts = {"stage": stage, "time": 1.0, "jobs": [job], "tasks": 1, "user": os.getuid()}
    durable.write_json(folder / "submission.json", facts)
    return folder


@pytest.mark.parametrize("named", ["run", "songs"])
def test_a_chain_is_ended_from_its_end_and_nothing_beside_it(
    tmp_path: Path, programs: Path, named: str
) -> None:
    places = {
        "1": ("run", "train"),
        "2": ("songs", "plan"),
        "3": ("songs", "generate"),
        "4": ("songs", "collect"),
    }
    folders = {job: submitted(tmp_path / place, stage, job) for job, (place, stage) in places.items()}
    other = submitted(tmp_path / "other", "train", "5")
    after = {
        "1": "",
        "2": "afterok:1(unfulfilled)",
        "3": "afterok:2(unfulfilled)",
        "4": "afterany:3_*(unfulfilled)",
    }
    lines = [f"{job}|PENDING|None||0:00|9:00|{after[job]}|{folders[job]}/x.sh" for job in ("1", "2", "4")]
    lines += [f"3_{share}|PENDING|None||0:00|9:00|{after['3']}|{folders['3']}/x.sh" for share in range(2)]
    lines += [f"5|RUNNING|None|n1|0:10|9:00||{other}/x.sh"]
    lines += ["6|PENDING|None||0:00|9:00|afterok:1(unfulfilled)|/home/ada/my.sh"]
    (programs / "queue").write_text("\n".join(lines) + "\n")
    told = stop(tmp_path / named)
    assert (programs / "cancelled").read_text().split() == ["4", "3", "2", "1"]
    assert "ended job 4 (collect, PENDING)" in told and "job 5" not in told and "goes on" in told


def test_what_is_not_known_or_not_ended_is_an_error(tmp_path: Path, programs: Path) -> None:
    folder = submitted(tmp_path / "run", "train", "1")
    with pytest.raises(IncompleteError, match="squeue failed"):  # there is no file for it to print
        stop(tmp_path / "run")
    (programs / "queue").write_text(f"1|RUNNING|None|n1|0:10|9:00||{folder}/x.sh\n")
    (programs / "scancel").write_text("#!/bin/sh\necho 'Access/permission denied' >&2; exit 1\n")
    with pytest.raises(IncompleteError, match=r"could not be cancelled .*denied.*scancel 1"):
        stop(tmp_path / "run")
    with pytest.raises(RequestError, match="no such directory"):
        stop(tmp_path / "rnu")


def test_a_trainer_that_is_no_job_is_named(tmp_path: Path, programs: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}\n")
    with held_lock(run), pytest.raises(IncompleteError, match=f"process {os.getpid()} on .* is no job"):
        stop(run)
    assert "no job is in the queue" in stop(run)

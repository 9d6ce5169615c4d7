"""Chains on a real Slurm that end early: refused at once, or failed over an earlier night's songs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from devcluster import DevCluster
from recipes import ROOT, start_job

from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.submission import submissions

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

RECIPE = {"training": {"steps": 5, "checkpoint_every": 5}}


def test_a_chain_one_of_whose_jobs_sbatch_would_not_take_is_refused_as_a_whole(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    # No table of the partition or its nodes says that there is no such licence.
    file.write_text(yaml.safe_dump({"time": 10, "generate": {"extra": ["--licenses=nothing"]}}))
    run, songs = tmp_path / "run", tmp_path / "songs"
    command = [sys.executable, "-m", "jobs.overnight", recipe, "--run", run, "--out", songs]
    command += ["--cluster", file, "--songs", 40, "--tasks", 2]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT)
    queued = [job for place in (run, songs) for item in submissions(place) for job in item["jobs"]]
    assert (done.returncode, queued) == (2, [])
    assert "generate: sbatch --test-only refuses the job" in done.stderr and "license" in done.stderr


def test_a_night_that_fails_does_not_end_well_with_an_earlier_nights_songs(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    file, songs = tmp_path / "cluster.yaml", tmp_path / "songs"
    file.write_text(yaml.safe_dump({"time": 10, "warning": 30}))
    start_job(
        "overnight", recipe, "--run", tmp_path / "run", "--out", songs, "--cluster", file,
        "--songs", 40, "--tasks", 2, "--no-audio",
    )  # fmt: skip
    (first,) = (item["jobs"][0] for item in submissions(songs) if item["stage"] == "collect")
    assert cluster.wait_for_end(first) == "COMPLETED"

    file.write_text(yaml.safe_dump({"time": 10, "warning": 30, "train": {"python": "/nowhere/python"}}))
    start_job(
        "overnight", recipe, "--run", tmp_path / "tonight", "--out", songs, "--cluster", file,
        "--songs", 400, "--tasks", 2, "--no-audio",
    )  # fmt: skip
    *_, last = (item for item in submissions(songs) if item["stage"] == "collect")
    assert cluster.wait_for_end(last["jobs"][0]) == "FAILED"
    reason = read_journal(Path(last["folder"]) / "journal-0.jsonl")[-1]["reason"]
    assert "not planned by this chain (its plan.json is an earlier one)" in reason
    assert "training did not end well" in reason
    assert (
        len([item for item in submissions(songs) if item["stage"] == "generate"]) == 2
    )  # none submitted again

"""Where Slurm binds tasks to cores, each gets as many as were asked for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import counting
import pytest
from devcluster import DevCluster, brought_up

from reelmill.cluster.preflight.probe import probe
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import Request, submit

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def binding(slurm_of_our_own: None) -> Iterator[DevCluster]:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    with brought_up(BINDING="affinity") as cluster:
        os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
        yield cluster


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_task_gets_the_processors_that_were_asked_for_it(
    binding: DevCluster, tmp_path: Path, cpus: int
) -> None:
    request = Request("train", tmp_path / "run", {}, make=counting.BoundJob)
    settings = ClusterSettings(time=5, warning=30, cpus_per_task=cpus, pass_environment=["PYTHONPATH"])
    submission = submit(request, settings)
    assert binding.wait_for_end(submission.jobs[0]) == "COMPLETED"
    assert (tmp_path / "run" / "processors").read_text() == str(cpus)


def test_the_doctor_sees_what_a_task_is_bound_to(binding: DevCluster, tmp_path: Path) -> None:
    settings = ClusterSettings(time=5, warning=30, cpus_per_task=2)
    bad = ClusterSettings(time=5, warning=30, cpus_per_task=2, setup=["export SLURM_CPU_BIND=map_cpu:0"])
    for given, state in ((settings, "ok"), (bad, "wrong")):
        found = {finding.check: finding for finding in probe({"collect": given}, tmp_path, 200)}
        assert found["processors of a task (collect)"].state == state, found

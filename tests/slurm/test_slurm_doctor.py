"""The doctor on a real Slurm: what can be wrong with nodes is made wrong, and found with its fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from devcluster import DevCluster

from reelmill.cluster.preflight.probe import requeue_allowed

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {"partition": "main", "nodes": 2, "time": 5, "warning": 30}
CASES: dict[str, dict[str, Any]] = {
    "well": {},
    "unseen disk": {},
    "no python": {"python": "/nowhere/python"},
    "no GPU": {"nodes": 1, "gpus_per_node": 1, "generate": {"tasks_per_node": 1}},
    "no network": {"setup": ["export GLOO_SOCKET_IFNAME=nowhere0"]},
    "no abc2midi": {"generate": {"nodes": 1, "setup": ["export REELMILL_ABC2MIDI=/nowhere/abc2midi"]}},
    "two partitions": {"collect": {"nodes": 1, "partition": "short"}},
    "long queue": {"extra": ["--begin=now+1hour"]},
    "partition": {"partition": "mian"},
    "time": {"partition": "short", "time": 31},
    "nodes": {"nodes": 9},
    "GPUs of generate": {"generate": {"nodes": 1, "tasks_per_node": 3, "gpus_per_node": 3}},
    "memory of collect": {"collect": {"nodes": 1, "memory": "900G"}},
    "constraint": {"extra": ["--constraint=nowhere"]},
}
Findings = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def examined(
    cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, Findings]]:
    """Exit code and findings of every case, all examined at once: they wait more than they work."""
    running = {}
    for case, changes in CASES.items():
        place = tmp_path_factory.mktemp("place")
        (place / "cluster.yaml").write_text(yaml.safe_dump({**GOOD, **changes}))
        runs = cluster.directory / "node-disk" / "runs" if case == "unseen disk" else place / "runs"
        command = [sys.executable, "-m", "reelmill.cli", "doctor", "--cluster", str(place / "cluster.yaml")]
        command += ["--place", str(runs), "--json", "--wait", "10" if case == "long queue" else "200"]
        running[case] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ))
    found = {}
    for case, process in running.items():
        told = json.loads(process.communicate(timeout=300)[0])
        found[case] = (process.returncode, {finding["check"]: finding for finding in told["findings"]})
    return found


def test_a_cluster_in_order(examined: dict[str, tuple[int, Findings]]) -> None:
    code, found = examined["well"]
    assert code == 0
    for check in ("Slurm", "accounting", "array size", "train request", "requeue", "shared disk"):
        assert found[check]["state"] == "ok"
    assert found["Python on nodes"]["state"] == "ok"
    assert found["gloo between tasks"]["state"] == "ok"
    for check in ("abc2midi on nodes", "soundfont on nodes"):
        assert found[check]["state"] == "ok"
    assert not [check for check in found if "(collect)" in check]  # one place, one probe


def test_each_partition_of_the_stages_is_looked_at(examined: dict[str, tuple[int, Findings]]) -> None:
    code, found = examined["two partitions"]
    assert code == 0
    for check in ("Python on nodes", "abc2midi on nodes", "soundfont on nodes", "requeue"):
        assert found[check]["state"] == found[f"{check} (collect)"]["state"] == "ok"


@pytest.mark.parametrize(
    ("case", "check", "seen", "fix"),
    [
        ("unseen disk", "shared disk", "wrote nothing", "the disk that the nodes share"),
        ("no python", "Python on nodes", "/nowhere/python", "`python` and `setup`"),
        ("no GPU", "GPUs", "torch sees 0", "CUDA module"),
        ("no network", "gloo between tasks", "", "GLOO_SOCKET_IFNAME"),
        ("no abc2midi", "abc2midi on nodes (generate)", "/nowhere/abc2midi", "`setup` in the cluster file"),
        ("partition", "train request", "mian", "did you mean 'main'"),
        ("time", "train request", "31 minutes", "at most 30"),
        ("nodes", "train request", "nodes = 9", "'main' has 4"),
        ("GPUs of generate", "generate request", "gpus_per_node = 3", "at most 2"),
        ("memory of collect", "collect request", "memory = '900G'", "at most"),
        ("constraint", "submission", "sbatch refused", "`extra` in the cluster file"),
    ],
)
def test_what_is_wrong_is_found(
    examined: dict[str, tuple[int, Findings]], case: str, check: str, seen: str, fix: str
) -> None:
    code, found = examined[case]
    assert code == 1
    assert found[check]["state"] == "wrong"
    assert seen in found[check]["seen"]
    assert fix in found[check]["fix"]


def test_a_long_queue_is_no_fault(examined: dict[str, tuple[int, Findings]]) -> None:
    code, found = examined["long queue"]
    assert code == 0
    assert found["probe"]["state"] == "warning"
    assert "PENDING" in found["probe"]["seen"]


def test_nothing_is_left_behind(examined: dict[str, tuple[int, Findings]], cluster: DevCluster) -> None:
    assert not list((cluster.directory / "node-disk" / "runs").iterdir())
    assert "doctor" not in cluster.slurm("squeue", "-h", "-o", "%j %T")


def test_requeue_taken_away(cluster: DevCluster) -> None:
    job = cluster.slurm(
        "sbatch", "--parsable", "--no-requeue", "--hold", "--wrap", "true", "--output=/dev/null"
    )
    finding = requeue_allowed(job)
    cluster.slurm("scancel", job)
    assert finding.state == "wrong"
    assert "jobs.train again" in finding.fix

"""Each check of the doctor, failing, with its fix. Those that ask a real Slurm are in tests/slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelmill.cluster import doctor, probe
from reelmill.cluster.doctor import Finding
from reelmill.cluster.settings import ClusterSettings

TWO = ClusterSettings(nodes=2)
GPUS = ClusterSettings(tasks_per_node=2, gpus_per_node=2)
WELL = {"host": "n1", "python": "python", "imports": [], "gpus": 2, "meeting": "ok"}


def test_a_machine_in_order(tmp_path: Path) -> None:
    found = {
        finding.check: finding for finding in doctor.examine(None, tmp_path, environ={"HOME": str(tmp_path)})
    }
    assert found["Python packages"].state == "ok"
    assert found["disk"].state == "ok"
    assert found["abc2midi"].state == "ok"


def test_missing_package() -> None:
    finding = doctor.python_packages(("torch", "no_such_package"))
    assert_wrong(finding, "no_such_package", "make setup")


def test_disk_without_room(tmp_path: Path) -> None:
    assert_wrong(doctor.disk(tmp_path, room=10**18), "GB free", "reelmill clean")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_disk_that_cannot_be_written() -> None:
    assert_wrong(doctor.disk(Path("/proc/1")), "cannot be written", "--place")


def test_missing_abc2midi(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reelmill.cli", "doctor", "--place", str(tmp_path), "--json"]
    environment = {**os.environ, "REELMILL_ABC2MIDI": "/nowhere/abc2midi"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    found = {finding["check"]: Finding(**finding) for finding in json.loads(done.stdout)["findings"]}
    assert_wrong(found["abc2midi"], "/nowhere/abc2midi", "pip install symusic")


def test_missing_soundfont(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    monkeypatch.setattr("reelmill.audio.soundfont._SYSTEM", ())  # a machine without Debian's package
    assert_wrong(doctor.soundfont(), "no soundfont", "make setup")


def test_comet_key_that_jobs_would_not_see(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "COMET_API_KEY": "sesame"}
    assert doctor.comet_key(environment, for_jobs=False).state == "ok"
    finding = doctor.comet_key(environment, for_jobs=True)
    assert_wrong(finding, "COMET_API_KEY", "comet login")
    assert "sesame" not in finding.describe()
    (tmp_path / ".comet.config").write_text("[comet]\napi_key = sesame%1\n")
    assert doctor.comet_key(environment, for_jobs=True).state == "ok"


def test_no_comet_key_is_a_warning(tmp_path: Path) -> None:
    finding = doctor.comet_key({"HOME": str(tmp_path)}, for_jobs=True)
    assert (finding.state, "comet login" in finding.fix) == ("warning", True)


def test_comet_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".comet.config").write_text("api_key without a section\n")
    assert_wrong(doctor.comet_key({"HOME": str(tmp_path)}, False), "cannot be read", "comet login")


def test_no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert_wrong(doctor.slurm(), "no sbatch", "make slurm-up")


def test_no_accounting_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    finding = doctor.accounting()
    assert (finding.state, bool(finding.fix)) == ("warning", True)


def test_arrays_forbidden() -> None:
    assert_wrong(doctor.array_limit({"MaxArraySize": "1"}), "forbids arrays", "--tasks 1")
    assert doctor.array_limit({"MaxArraySize": "1001"}).seen.startswith("1000 tasks")


def test_a_disk_that_nodes_do_not_see(tmp_path: Path) -> None:
    (finding,) = judged([], "", TWO, tmp_path)
    assert_wrong(finding, "wrote nothing", "the disk that the nodes share")


def test_no_python_on_a_node(tmp_path: Path) -> None:
    found = judged([], "…/python: No such file or directory", TWO, tmp_path)
    assert found[0].state == "ok"
    assert_wrong(found[1], "No such file or directory", "`setup` in the cluster file")


def test_a_package_missing_on_a_node(tmp_path: Path) -> None:
    found = judged([WELL, {**WELL, "imports": ["torch (OSError: libcudart)"]}], "log", TWO, tmp_path)
    assert_wrong(found[1], "libcudart", "shared disk")


def test_no_gpu_on_a_node(tmp_path: Path) -> None:
    found = judged([WELL, {**WELL, "gpus": 0}], "log", GPUS, tmp_path)
    assert_wrong(found[2], "torch sees 0 on a node, asked for were 2", "CUDA module")


@pytest.mark.parametrize(("settings", "name"), [(TWO, "gloo"), (GPUS, "NCCL")])
def test_tasks_that_do_not_reach_each_other(settings: ClusterSettings, name: str, tmp_path: Path) -> None:
    broken = {**WELL, "meeting": "DistNetworkError: connection refused"}
    assert_wrong(judged([WELL, broken], "log", settings, tmp_path)[-1], "connection refused", "SOCKET_IFNAME")
    silent = judged([WELL], "log", settings, tmp_path)[-1]
    assert_wrong(silent, "1 of 2 tasks reported", "SOCKET_IFNAME")
    assert silent.check.startswith(name)


def judged(reports: list[dict[str, Any]], log: str, settings: ClusterSettings, place: Path) -> list[Finding]:
    return list(probe.judge(reports, log, settings, place))


def assert_wrong(finding: Finding, seen: str, fix: str) -> None:
    assert finding.state == "wrong"
    assert seen in finding.seen
    assert fix in finding.fix

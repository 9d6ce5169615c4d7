"""Each check of the doctor, failing, with its fix. Those that ask a real Slurm are in tests/slurm."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelmill import config
from reelmill.audio.settings import AudioSettings
from reelmill.cluster import queue
from reelmill.cluster.preflight import doctor, judgement
from reelmill.cluster.preflight.disks import Disks
from reelmill.cluster.preflight.machine import Finding
from reelmill.cluster.preflight.probe import probes_of
from reelmill.cluster.settings import ClusterSettings, load_clusters
from reelmill.errors import RequestError
from reelmill.room import size_text
from reelmill.songs.results.disk import foretell_disk

TWO = ClusterSettings(nodes=2)
GPUS = ClusterSettings(tasks_per_node=2, gpus_per_node=2)
TOOLS = [{"check": name, "state": "ok", "seen": "5.02"} for name in ("abc2midi", "soundfont")]
WELL = {
    "host": "n1", "python": "python", "imports": [], "tools": TOOLS, "gpus": 2, "processors": 8, "node": 64,
    "gloo": "ok", "nccl": "ok",
}  # fmt: skip


def test_a_machine_in_order(tmp_path: Path) -> None:
    found = {
        finding.check: finding for finding in doctor.examine(None, tmp_path, environ={"HOME": str(tmp_path)})
    }
    assert found["Python packages"].state == "ok"
    assert found["disk"].state == "ok"
    assert found["soundfont"].state == "ok"
    assert found["abc2midi"].state == "ok"


def test_missing_package() -> None:
    finding = doctor.python_packages(("torch", "no_such_package"))
    assert_wrong(finding, "no_such_package", "make setup")


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    assert_wrong(doctor.disk(tmp_path / "notes" / "runs"), "cannot be written", "--place")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_somebody_elses_directory_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert_wrong(doctor.disk(tmp_path / "runs"), "cannot be written", "--place")


def test_a_disk_mounted_for_reading_cannot_be_written(tmp_path: Path, can_mount: None) -> None:
    code, found = examined(tmp_path / "disk" / "runs", mount="-o ro", at=tmp_path / "disk")
    assert code == 1
    assert_wrong(found["disk"], "cannot be written (Read-only", "--place")
    assert "disk room" in found  # the other checks are made all the same


def test_a_small_disk_has_no_room(tmp_path: Path, can_mount: None) -> None:
    code, found = examined(tmp_path / "disk" / "runs", mount="-o size=1m", at=tmp_path / "disk")
    assert (code, found["disk"].state) == (1, "ok")
    assert_wrong(found["disk room"], "1.0 MB free of 5.0 GB", "reelmill clean")


def test_songs_that_do_not_fit_the_disk(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("audio: {format: flac}\n")
    command = ["--songs", "1000000000000", str(tmp_path / "recipe.yaml"), "audio.channels=1"]
    code, found = examined(tmp_path, *command)
    assert code == 1
    assert_wrong(found["disk for songs"], "1,000,000,000,000 songs with sound take about", "--no-audio")
    stated = foretell_disk(config.load(tmp_path / "recipe.yaml", ["audio.channels=1"]), 10**12).total
    assert size_text(stated) in found["disk for songs"].seen


def test_songs_that_fit_the_disk_are_stated_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")  # as in a run
    _, found = examined(tmp_path, "--songs", "10", str(tmp_path), "--no-audio")
    assert found["disk for songs"].state == "ok"
    assert size_text(foretell_disk(config.load(), 10, audio=False).total) in found["disk for songs"].seen


@pytest.mark.parametrize("arguments", [["--songs", "0"], ["audio.format=flac"], ["--songs", "1", "no.yaml"]])
def test_a_wrong_question_about_songs(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reelmill.cli", "doctor", "--place", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_missing_abc2midi(tmp_path: Path) -> None:
    code, found = examined(tmp_path, REELMILL_ABC2MIDI="/nowhere/abc2midi")
    assert code == 1
    assert_wrong(found["abc2midi"], "/nowhere/abc2midi", "pip install symusic")


def test_a_program_that_is_no_abc2midi(tmp_path: Path) -> None:
    _, found = examined(tmp_path, REELMILL_ABC2MIDI="/bin/false")
    assert_wrong(found["abc2midi"], "/bin/false", "pip install symusic")


def test_a_soundfont_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "soundfonts").mkdir()
    (tmp_path / "soundfonts" / "TimGM6mb.sf2").write_text("<html>404 Not Found</html>")
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    monkeypatch.setattr("reelmill.audio.soundfont._SYSTEM", ())
    assert_wrong(doctor.soundfont(AudioSettings()), "no soundfont", "make setup")


def test_missing_soundfont(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    monkeypatch.setattr("reelmill.audio.soundfont._SYSTEM", ())  # a machine without Debian's package
    assert_wrong(doctor.soundfont(AudioSettings()), "no soundfont", "make setup")


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


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1", "Unable to contact"),
        ("exec sleep 60", "no answer from Slurm in 1 seconds"),
    ],
)
def test_slurm_does_not_answer(
    program: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "squeue", "scontrol", "sinfo"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(queue, "SECONDS", 1)
    assert_wrong(doctor.slurm(), seen, "SLURM_CONF")
    (tmp_path / "cluster.yaml").write_text("partition: main\n")
    found = list(doctor.examine(tmp_path / "cluster.yaml", tmp_path, environ={"HOME": str(tmp_path)}))
    assert [finding.check for finding in found][-1] == "Slurm"  # nothing more can be asked


@pytest.mark.skipif(shutil.which("scontrol") is None, reason="needs Slurm's commands")
def test_a_controller_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "slurm.conf").write_text(
        f"ClusterName=dead\nSlurmctldHost=localhost\nSlurmctldPort={port}\nMessageTimeout=2\n"
        f"AuthType=auth/munge\nAuthInfo=socket={tmp_path}/munge\nNodeName=n1\nPartitionName=main Nodes=n1\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setattr(queue, "SECONDS", 5)
    finding = doctor.slurm()
    assert_wrong(finding, "sinfo", "SLURM_CONF")


def test_slurm_stops_answering_on_the_way(cluster_of_texts: Path, tmp_path: Path) -> None:
    """What was found before is said, and then why there is no more."""
    for name in ("sbatch", "squeue", "sacct"):
        (cluster_of_texts / name).write_text("#!/bin/sh\n")
        (cluster_of_texts / name).chmod(0o755)
    (cluster_of_texts / "config").unlink()
    (tmp_path / "cluster.yaml").write_text("time: 60\n")
    found = list(doctor.examine(tmp_path / "cluster.yaml", tmp_path, environ={"HOME": str(tmp_path)}))
    assert "accounting" in [finding.check for finding in found]
    assert_wrong(found[-1], "scontrol failed", "run doctor again")


def test_a_typo_in_the_cluster_file_is_said_before_anything_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("partiton: main\n")
    with pytest.raises(RequestError, match="did you mean 'partition'"):
        next(doctor.examine(tmp_path / "cluster.yaml", tmp_path))


def test_no_accounting_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    finding = doctor.accounting()
    assert (finding.state, bool(finding.fix)) == ("warning", True)


def test_arrays_forbidden() -> None:
    assert_wrong(doctor.array_limit({"MaxArraySize": "1"}), "forbids arrays", "--tasks 1")
    assert doctor.array_limit({"MaxArraySize": "1001"}).seen.startswith("1000 tasks")


def test_a_disk_that_submission_would_refuse() -> None:
    disks = Disks([("/", "ext4"), ("/scratch", "nfs4")], {"n1"})
    (finding,) = doctor.nodes_disk([], Path("/home/ada"), disks)
    assert_wrong(finding, "/home/ada: lies on ext4", "share: /scratch (nfs4)")
    assert "shared_disks: [/home]" in finding.fix
    assert list(doctor.nodes_disk(["/home"], Path("/home/ada"), disks)) == []


def test_such_a_disk_is_probed_all_the_same_since_a_node_knows(
    cluster_of_texts: Path, tmp_path: Path
) -> None:
    (cluster_of_texts / "node").write_text("NodeName=n1 NodeHostName=elsewhere\n")
    (cluster_of_texts / "job").write_text("JobId=7 Requeue=1\n")
    for name in ("sbatch", "squeue", "srun", "sacct", "scancel"):
        said = "Submitted batch job 7" if name == "sbatch" else ""
        (cluster_of_texts / name).write_text(f"#!/bin/sh\necho {said} | grep .\nexit 0\n")
        (cluster_of_texts / name).chmod(0o755)
    (tmp_path / "cluster.yaml").write_text("time: 60\n")
    place = Path("/dev/shm") / f"reelmill-{tmp_path.name}"
    try:
        environment = {"HOME": str(tmp_path)}
        found = {
            item.check: item for item in doctor.examine(tmp_path / "cluster.yaml", place, 30, environment)
        }
        assert not list(place.iterdir())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert_wrong(found["disk seen from here"], "lies in /dev/shm", "shared_disks: [/dev/shm]")
    assert_wrong(
        found["shared disk"], "wrote nothing", "the disk that the nodes share"
    )  # the job ran nowhere


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


@pytest.mark.parametrize("name", ["abc2midi", "soundfont"])
def test_a_tool_missing_on_one_of_the_nodes(name: str, tmp_path: Path) -> None:
    tools = [*TOOLS, {"check": name, "state": "wrong", "seen": "none here", "fix": "install it"}]
    found = judged([WELL, {**WELL, "host": "n2", "tools": tools}], "log", TWO, tmp_path)
    states = {finding.check: finding.state for finding in found}
    finding = next(finding for finding in found if finding.check == f"{name} on nodes")
    assert_wrong(finding, "n2: none here", "install it")
    assert [state for check, state in states.items() if check != finding.check] == ["ok"] * 5


def test_every_kind_of_place_that_stages_run_at_is_probed(tmp_path: Path) -> None:
    """Training on GPUs of nodes, songs on another partition, collecting where training is, without GPUs."""
    (tmp_path / "cluster.yaml").write_text(
        "partition: gpu\ntrain: {gpu_type: a100, nodes: 4, tasks_per_node: 8, gpus_per_node: 8}\n"
        "generate: {partition: spare, nodes: 1, gpus_per_node: 1}\ncollect: {cpus_per_task: 8}\n"
    )
    first, second = probes_of(load_clusters(tmp_path / "cluster.yaml"))
    assert (first.stages, first.asked.processes, first.asked.gpus_per_node) == (["train", "collect"], 2, 1)
    assert (second.stages, second.asked.processes, second.asked.partition) == (["generate"], 1, "spare")
    assert (first.suffix, second.suffix) == ("", " (generate)")


def test_stages_with_their_own_python_or_with_gpus_have_their_own_probe() -> None:
    changes: list[dict[str, Any]] = [{"python": "apptainer exec x python"}, {"gpus_per_node": 1}, {}]
    train, *others = (ClusterSettings(**change) for change in [{}, *changes])
    found = [len(probes_of({"train": train, "generate": other})) for other in others]
    assert found == [2, 2, 1]


def test_no_gpu_on_a_node(tmp_path: Path) -> None:
    found = judged([WELL, {**WELL, "gpus": 0}], "log", GPUS, tmp_path)
    assert_wrong(found[5], "torch sees 0 on a node, asked for were 2", "CUDA module")


@pytest.mark.parametrize(("settings", "name"), [(TWO, "gloo"), (GPUS, "NCCL")])
def test_tasks_that_do_not_reach_each_other(settings: ClusterSettings, name: str, tmp_path: Path) -> None:
    broken = {**WELL, name.lower(): "DistNetworkError: connection refused"}
    assert_wrong(judged([WELL, broken], "log", settings, tmp_path)[-1], "connection refused", "SOCKET_IFNAME")
    silent = judged([WELL], "log", settings, tmp_path)[-1]
    assert_wrong(silent, "1 of 2 tasks reported", "SOCKET_IFNAME")
    assert silent.check.startswith(name)


def test_both_ways_that_training_speaks_are_tried_where_there_are_gpus(tmp_path: Path) -> None:
    found = judged([WELL, {**WELL, "gloo": "unreachable"}], "log", GPUS, tmp_path)[-2:]
    assert [(finding.check, finding.state) for finding in found] == [
        ("gloo between tasks", "wrong"),
        ("NCCL between tasks", "ok"),
    ]


def test_a_task_bound_to_fewer_processors_than_were_asked_for(tmp_path: Path) -> None:
    settings = ClusterSettings(cpus_per_task=2)
    bound = judged([{**WELL, "processors": 1}], "log", settings, tmp_path)[-1]
    assert_wrong(bound, "bound to 1, asked for were cluster.cpus_per_task = 2", "TaskPlugin")
    assert judged([{**WELL, "processors": 1, "node": 1}], "log", settings, tmp_path)[-1].state == "ok"


def examined(
    place: Path, *arguments: str, mount: str = "", at: Path | None = None, **environment: str
) -> tuple[int, dict[str, Finding]]:
    """Exit code and findings of ``reelmill doctor``, with a tmpfs of these options mounted ``at``."""
    command = [sys.executable, "-m", "reelmill.cli", "doctor", "--place", str(place), "--json", *arguments]
    if at is not None:
        at.mkdir()
        mounting = f'mount -t tmpfs {mount} none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", mounting, str(at), *command]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    told = json.loads(done.stdout)["findings"]
    return done.returncode, {finding["check"]: Finding(**finding) for finding in told}


def judged(reports: list[dict[str, Any]], log: str, settings: ClusterSettings, place: Path) -> list[Finding]:
    return list(judgement.judge(reports, log, settings, place))


def assert_wrong(finding: Finding, seen: str, fix: str) -> None:
    assert finding.state == "wrong"
    assert seen in finding.seen
    assert fix in finding.fix

"""Songs on a real Slurm: a whole night with faults on the way, and the plain sbatch scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from devcluster import DevCluster, wait_until
from recipes import ROOT, start_job

from reelmill import durable
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.node.requeue import read_journal
from reelmill.cluster.status.songs_status import songs_status
from reelmill.cluster.submission import submissions
from reelmill.songs.check.verify import verify
from reelmill.songs.make.generate import generate
from reelmill.songs.store.leases import read_leases
from reelmill.songs.store.manifest import shard_numbers
from reelmill.songs.store.plan import plan_path

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


RECIPE = {
    "model": {"hidden_size": 64},
    "training": {
        "steps": 1200, "accumulation": 2, "learning_rate": 0.01, "checkpoint_every": 50, "evaluate_every": 100
    },
    "sampling": {"max_length": 400},
    "songs": {"max_attempts": 4},
    "audio": {"sample_rate": 44100, "channels": 2},
}  # fmt: skip


def test_a_night_with_a_preemption_and_a_lost_node(cluster: DevCluster, recipe: Path, tmp_path: Path) -> None:
    run, songs = tmp_path / "run", tmp_path / "songs"
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"partition": "main", "time": 10, "warning": 30, "train": {"nodes": 2}}))
    start_job(
        "overnight", recipe, "--run", run, "--out", songs, "--cluster", file, "--songs", 400, "--tasks", 3
    )
    training = submissions(run)[0]["jobs"][0]
    jobs = {item["stage"]: item["jobs"][0] for item in submissions(songs)}

    wait_until(lambda: newest_checkpoint(run) >= 50, "the first checkpoint")
    node = cluster.slurm("scontrol", "show", "hostnames", _nodes(cluster, training)).split()[0]
    cluster.slurm("srun", "--partition=high", f"--nodelist={node}", "--exclusive", "--time=1", "true")

    wait_until(lambda: len(shard_numbers(songs, "audio")) >= 3, "the first shards", 300)
    lost = cluster.slurm("scontrol", "show", "hostnames", _nodes(cluster, jobs["generate"])).split()[0]
    cluster.node("lose", lost)
    try:
        assert cluster.wait_for_end(jobs["collect"], 400) == "COMPLETED"
    finally:
        cluster.node("start", lost)

    assert _restarts(run) > 0
    assert _restarts(songs) > 0
    assert verify(songs).intact
    seen = songs_status(songs)
    assert (seen.songs, seen.shards, seen.text_shards, seen.audio_shards) == (400, 40, 40, 40)
    assert {job.stage: job.state for job in seen.jobs.jobs}["collect"] == "COMPLETED"
    for name in ("index.parquet", "summary.json", "README.md", "report.html"):
        assert (songs / name).stat().st_size
    undisturbed = tmp_path / "undisturbed"
    generate(run, undisturbed, songs=400, progress=False)
    for tar in sorted(undisturbed.glob("*/*.tar")):
        assert durable.sha256(songs / tar.relative_to(undisturbed)) == durable.sha256(tar)


def test_an_array_in_parts_goes_on_after_a_preemption_and_keeps_what_is_made(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    run, songs = tmp_path / "run", tmp_path / "songs"
    command = [sys.executable, "-m", "reelmill.cli", "train", recipe, "--run", run, "training.steps=60"]
    subprocess.run(list(map(str, command)), check=True, timeout=300, cwd=ROOT)
    file = tmp_path / "cluster.yaml"
    limits = {"time": "0:10:00", "warning": 30, "generate": {"array_parallelism": 2}}
    file.write_text(yaml.safe_dump({"partition": "main", **limits}))
    start_job("generate", run, "--songs", 600, "--out", songs, "--tasks", 6, "--cluster", file)
    jobs = {item["stage"]: item["jobs"] for item in submissions(songs)}
    assert (len(jobs["generate"]), len(jobs["collect"])) == (2, 1)

    wait_until(lambda: len(shard_numbers(songs, "audio")) >= 3, "the first shards", 300)
    node = cluster.slurm("scontrol", "show", "hostnames", _nodes(cluster, ",".join(jobs["generate"])))
    cluster.slurm(
        "srun", "--partition=high", f"--nodelist={node.split()[0]}", "--exclusive", "--time=1", "true"
    )
    made = {path: path.read_bytes() for path in songs.glob("audio/shard-*.json")}
    assert cluster.wait_for_end(jobs["collect"][0], 400) == "COMPLETED"

    assert _restarts(songs) > 0
    assert len(made) < 60, "all was made before the preemption"
    assert {path: path.read_bytes() for path in made} == made
    assert verify(songs).intact and not read_leases(songs)


def test_a_chain_whose_training_fails_ends_with_a_clear_state(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    broken = {"python": "/nowhere/python"}
    file.write_text(yaml.safe_dump({"time": 10, "warning": 30, "train": broken}))
    start_job(
        "overnight", recipe, "--run", tmp_path / "run", "--out", tmp_path / "songs",
        "--cluster", file, "--songs", 40, "--tasks", 2,
    )  # fmt: skip
    jobs = {item["stage"]: item["jobs"][0] for item in submissions(tmp_path / "songs")}
    assert cluster.wait_for_end(jobs["collect"]) == "FAILED"
    assert cluster.wait_for_end(jobs["generate"]) == "CANCELLED"
    collect = next(
        Path(item["folder"]) for item in submissions(tmp_path / "songs") if item["stage"] == "collect"
    )
    assert "not planned" in read_journal(collect / "journal-0.jsonl")[-1]["reason"]


def test_a_chain_whose_array_is_too_large_is_refused_as_a_whole(
    cluster: DevCluster, recipe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"time": 10, "warning": 30}))
    run, songs = tmp_path / "run", tmp_path / "songs"
    command = [sys.executable, "-m", "jobs.overnight", recipe, "--run", run, "--out", songs]
    command += ["--cluster", file, "--songs", 40000, "--tasks", 20000]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 2
    assert "--tasks 20000" in done.stderr
    assert "this cluster keeps at most 9999 jobs" in done.stderr
    assert submissions(run) == submissions(songs) == []


def test_plain_sbatch_scripts(cluster: DevCluster, recipe: Path, tmp_path: Path) -> None:
    run, songs = tmp_path / "run", tmp_path / "songs"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    within_a_job = {"SLURM_CPU_BIND": "mask_cpu:0x80", "SLURM_NTASKS_PER_NODE": "9", "SBATCH_PARTITION": "no"}

    def sbatch(*arguments: object) -> str:
        command = [
            "bash",
            "slurm/submit.sh",
            "--parsable",
            f"--output={tmp_path}/%j.log",
            *map(str, arguments),
        ]
        environment = {**os.environ, "PATH": path, **within_a_job}
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
        return done.stdout.strip()

    def prepare(*arguments: object) -> None:
        command = [sys.executable, "-m", "reelmill.cluster.node.prepare", *map(str, arguments)]
        subprocess.run(command, check=True, timeout=120, cwd=ROOT)

    prepare("corpus", recipe)
    training = sbatch("slurm/train.sbatch", recipe, run, "training.steps=100")
    assert cluster.wait_for_end(training) == "COMPLETED"
    assert newest_checkpoint(run) == 100
    (journal,) = (run / "logs" / "submissions").glob("*/journal-0.jsonl")
    assert read_journal(journal)[-1]["log"] == str(tmp_path / f"{training}.log")  # which `status` shows
    prepare("plan", run, songs, 80)
    assert plan_path(songs).is_file()
    array = sbatch("slurm/generate.sbatch", songs)
    collecting = f"reelmill verify {songs} && reelmill collect {songs} && reelmill report {songs}"
    after = sbatch(f"--dependency=afterany:{array}", "--mem=4G", "--export=PATH,HOME", f"--wrap={collecting}")
    assert cluster.wait_for_end(after) == "COMPLETED"
    assert verify(songs).intact
    assert (songs / "report.html").is_file()


def _nodes(cluster: DevCluster, job: str) -> str:
    return cluster.slurm("squeue", "-h", "-t", "R", "-j", job, "-o", "%N").split("\n")[0]


def _restarts(directory: Path) -> int:
    journals = (directory / "logs" / "submissions").rglob("journal-*.jsonl")
    return sum(
        event["event"] == "start" and event["restart"] > 0
        for path in journals
        for event in read_journal(path)
    )

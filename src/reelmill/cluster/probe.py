"""A small job that looks at the nodes: the shared disk, Python, GPUs, and whether two tasks reach each other.

It is submitted exactly as a training is, from a directory of its own under the place where runs will lie,
which is removed afterwards.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from reelmill.cluster import queue, task
from reelmill.cluster.doctor import PACKAGES, Finding, import_problem
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import Request, Submission, submit
from reelmill.errors import RequestError

_MEETING = timedelta(seconds=60)


class ProbeJob(task.Job):
    """One task of the probe; writes what it sees to ``rank-N.json`` in the probe's directory."""

    def work(self) -> bool:
        place = Path(self.job_file).parent
        rank = int(os.environ["RANK"])
        seen: dict[str, Any] = {"host": os.uname().nodename, "python": sys.executable}
        seen["imports"] = [f"{name} ({why})" for name in PACKAGES if (why := import_problem(name))]
        seen["gpus"] = _gpus()
        _write(place, rank, seen)  # once before they meet: a task may hang or die there
        if not seen["imports"]:
            seen["meeting"] = _meeting(seen["gpus"] > 0)
            _write(place, rank, seen)
        return True


def probe(settings: ClusterSettings, place: Path, wait: float) -> Iterator[Finding]:
    """Send the probe to two tasks, on two nodes where the settings ask for more than one, and say what came.

    ``wait`` is in seconds, the time in the queue included.
    """
    place.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".doctor-", dir=place.absolute()))
    nodes = min(2, settings.nodes)
    asked = dataclasses.replace(
        settings,
        nodes=nodes,
        tasks_per_node=2 // nodes if not settings.gpus_per_node else min(2 // nodes, settings.gpus_per_node),
        gpus_per_node=min(2 // nodes, settings.gpus_per_node),
        time=max(5, min(10, settings.time)),
        warning=60,
        max_starts_without_progress=1,
        shared_disks=[*settings.shared_disks, str(place)],  # whether nodes see it is what is to be found out
    )
    try:
        request = Request("doctor", directory, {}, lambda job_file, _share: ProbeJob(job_file))
        try:
            sent = submit(request, asked)
        except RequestError as error:
            yield Finding(
                "submission",
                "wrong",
                str(error),
                "mend `account`, `qos` or `extra` in the cluster file; yours: sacctmgr show assoc user=$USER",
            )
            return
        yield requeue_allowed(sent.jobs[0])
        yield from _await(sent, asked, place, wait)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def requeue_allowed(job: str) -> Finding:
    """Whether Slurm will queue a job again that asked for it."""
    shown = queue.ask("scontrol", "show", "job", "-o", job)
    if " Requeue=1" in f" {shown}":
        return Finding("requeue", "ok", "allowed")
    return Finding(
        "requeue",
        "wrong",
        "this cluster took --requeue away from the job",
        "choose a partition or QOS that allows it; else run jobs.train again after each end: it goes on",
    )


def _await(sent: Submission, asked: ClusterSettings, place: Path, wait: float) -> Iterator[Finding]:
    job, end = sent.jobs[0], time.monotonic() + wait
    started = False
    while time.monotonic() < end:
        found = queue.queued([job])
        started = started or any(item.state != "PENDING" for item in found) or any(_reports(sent.folder))
        if not found:
            yield from judge(_reports(sent.folder), _log(sent.folder), asked, place)
            return
        time.sleep(1)
    state = found[0]
    subprocess.run(["scancel", job], timeout=queue.SECONDS, check=False)
    if started:
        yield from judge(_reports(sent.folder), _log(sent.folder), asked, place)
    else:
        yield Finding(
            "probe",
            "warning",
            f"still {state.state} ({state.reason}) after {wait:.0f} seconds: nothing is known of the nodes",
            "try again with a longer --wait, or another partition",
        )


def judge(reports: list[dict[str, Any]], log: str, asked: ClusterSettings, place: Path) -> Iterator[Finding]:
    """What the tasks' reports say; ``log`` is the job's log, empty where nothing of it came back."""
    last = log.strip().splitlines()[-1] if log.strip() else ""
    if not reports and not log:
        yield Finding(
            "shared disk",
            "wrong",
            f"a node wrote nothing that is seen here in {place}",
            "use a directory on the disk that the nodes share",
        )
        return
    yield Finding("shared disk", "ok", f"a node writes to {place}, and it is seen here")
    imports = [problem for report in reports for problem in report["imports"]]
    if imports or not reports:
        yield Finding(
            "Python on nodes",
            "wrong",
            "; ".join(dict.fromkeys(imports)) or last,
            "its environment must lie on the shared disk; see `python` and `setup` in the cluster file",
        )
        return
    hosts = ", ".join(sorted({report["host"] for report in reports}))
    yield Finding("Python on nodes", "ok", f"imports on {hosts}")
    if asked.gpus_per_node:
        yield _judge_gpus(reports, asked)
    if asked.processes > 1:
        yield _judge_meeting(reports, asked, last)


def _judge_gpus(reports: list[dict[str, Any]], asked: ClusterSettings) -> Finding:
    fewest = min(report["gpus"] for report in reports)
    if fewest < asked.gpus_per_node:
        return Finding(
            "GPUs",
            "wrong",
            f"torch sees {fewest} on a node, asked for were {asked.gpus_per_node}",
            "load the CUDA module in `setup`, or install a torch built for the nodes' driver (nvidia-smi)",
        )
    return Finding("GPUs", "ok", f"{fewest} a node")


def _judge_meeting(reports: list[dict[str, Any]], asked: ClusterSettings, last: str) -> Finding:
    name = "NCCL" if asked.gpus_per_node else "gloo"
    failed = [report.get("meeting", "no answer") for report in reports if report.get("meeting") != "ok"]
    if failed or len(reports) < asked.processes:
        return Finding(
            f"{name} between tasks",
            "wrong",
            failed[0] if failed else f"{len(reports)} of {asked.processes} tasks reported; {last}",
            "name the nodes' network in `setup`: export NCCL_SOCKET_IFNAME=… GLOO_SOCKET_IFNAME=…",
        )
    return Finding(f"{name} between tasks", "ok", f"{len(reports)} tasks reach each other")


def _gpus() -> int:
    try:
        import torch

        return int(torch.cuda.device_count())
    except Exception:
        return 0


def _meeting(with_gpus: bool) -> str:
    import torch
    from torch import distributed

    try:
        distributed.init_process_group("nccl" if with_gpus else "gloo", timeout=_MEETING)
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}" if with_gpus else "cpu"
        counted = torch.ones(1, device=device)
        distributed.all_reduce(counted)
        met = int(counted.item()) == distributed.get_world_size()
        distributed.destroy_process_group()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "ok" if met else "a wrong sum came back"


def _write(place: Path, rank: int, seen: dict[str, Any]) -> None:
    partial = place / f"rank-{rank}.partial"
    partial.write_text(json.dumps(seen), encoding="utf-8")
    partial.replace(place / f"rank-{rank}.json")


def _reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("rank-*.json"))]


def _log(folder: Path) -> str:
    return "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*_log.out"))
    )

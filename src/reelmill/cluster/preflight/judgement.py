"""What is to be thought of the nodes, from what the probe's tasks wrote and from their log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelmill.cluster.preflight.machine import Finding
from reelmill.cluster.settings import ClusterSettings


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
    yield from _judge_tools(reports)
    yield judge_processors(reports, asked)
    if asked.gpus_per_node:
        yield _judge_gpus(reports, asked)
    if asked.processes > 1:
        for backend in ["gloo", *(["nccl"] if asked.gpus_per_node else [])]:
            yield _judge_meeting(backend, reports, asked, last)


def _judge_tools(reports: list[dict[str, Any]]) -> Iterator[Finding]:
    seen = [(report["host"], Finding(**tool)) for report in reports for tool in report["tools"]]
    for check in dict.fromkeys(tool.check for _, tool in seen):
        missing = [(host, tool) for host, tool in seen if tool.check == check and tool.state != "ok"]
        if missing:
            host, tool = missing[0]
            fix = f"on the nodes (or in their container, or by `setup` in the cluster file): {tool.fix}"
            yield Finding(f"{check} on nodes", "wrong", f"{host}: {tool.seen}", fix)
        else:
            told = dict.fromkeys(tool.seen for _, tool in seen if tool.check == check)
            yield Finding(f"{check} on nodes", "ok", "; ".join(told))


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


def judge_processors(reports: list[dict[str, Any]], asked: ClusterSettings) -> Finding:
    """Whether each task may use the processors that were asked for it, as far as its node has so many."""
    for report in reports:
        due = min(asked.cpus_per_task, report["node"])
        if report["processors"] < due:
            return Finding(
                "processors of a task",
                "wrong",
                f"{report['host']}: a task is bound to {report['processors']}, asked for were "
                f"cluster.cpus_per_task = {asked.cpus_per_task}",
                "leave SLURM_CPU_BIND, SRUN_CPUS_PER_TASK and SLURM_HINT out of `setup`; else ask the "
                "cluster's support how tasks are bound (TaskPlugin, CpuBind)",
            )
    fewest = min(report["processors"] for report in reports)
    return Finding("processors of a task", "ok", f"{fewest}")


def _judge_meeting(backend: str, reports: list[dict[str, Any]], asked: ClusterSettings, last: str) -> Finding:
    name = "NCCL" if backend == "nccl" else backend
    failed = [report.get(backend, "no answer") for report in reports if report.get(backend) != "ok"]
    if failed or len(reports) < asked.processes:
        return Finding(
            f"{name} between tasks",
            "wrong",
            failed[0] if failed else f"{len(reports)} of {asked.processes} tasks reported; {last}",
            "name the nodes' network in `setup`: export NCCL_SOCKET_IFNAME=… GLOO_SOCKET_IFNAME=…",
        )
    return Finding(f"{name} between tasks", "ok", f"{len(reports)} tasks reach each other")

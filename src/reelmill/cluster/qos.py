"""Limits of a quality of service (QOS), as accounting has them: time, jobs at once, and what a job may take.

Looked at are the QOS that the cluster file names and the partition's own, where Slurm enforces them and
accounting answers. A limit of the partition's goes before the same one of the job's, unless the job's has the
flag OverPartQOS (slurm.schedmd.com/resource_limits.html). Not looked at: the default QOS of an account, the
limits of accounts and users, and what their other jobs take of a limit. Slurm lets such jobs wait, and
``reelmill status`` shows the reason that it gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reelmill.cluster import queue
from reelmill.cluster.settings import ClusterSettings
from reelmill.config import nearest
from reelmill.errors import IncompleteError, RequestError

_TRES = ("MaxTRES", "MaxTRESPU", "GrpTRES")
_FIELDS = ("Name", "Flags", "MaxWall", "MaxSubmitPU", *_TRES)
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024, "P": 1024**3}


@dataclass(frozen=True)
class Qos:
    """``limits`` by Slurm's name: MaxWall (minutes), MaxSubmitPU (jobs), and ``MaxTRES cpu`` and the like."""

    limits: Mapping[str, float]
    over_partition: bool = False


def qos_problems(settings: ClusterSettings, partition: str, jobs: int = 1) -> list[str]:
    """A line for each limit that one of ``jobs`` jobs of ``settings`` is over, or they together.

    Empty where limits are not enforced or nothing answers.
    """
    enforced = set(queue.configuration().get("AccountingStorageEnforce", "").split(","))
    if not enforced & {"qos", "limits", "safe", "all"}:
        return []
    try:
        listed = queue.ask("sacctmgr", "-n", "-P", "show", "qos", f"format={','.join(_FIELDS)}")
        own = re.search(r" QoS=(\S+)", queue.ask("scontrol", "show", "partition", "-o", partition))
    except (IncompleteError, RequestError):
        return []
    known = parse_qos(listed)
    if settings.qos and settings.qos not in known:
        return [f"cluster.qos = {settings.qos!r}: no such QOS{nearest(settings.qos, sorted(known))}"]
    if not enforced & {"limits", "safe", "all"}:
        return []
    limits = in_force(known.get(settings.qos), known.get(own[1]) if own else None)
    return over_limits(settings, jobs, limits)


def parse_qos(listed: str) -> dict[str, Qos]:
    """QOS by name in what ``sacctmgr -n -P show qos`` prints; lines that read otherwise are left out."""
    found = {}
    for line in listed.splitlines():
        if line.count("|") != len(_FIELDS) - 1:
            continue
        row = dict(zip(_FIELDS, line.split("|"), strict=True))
        limits: dict[str, float] = {}
        wall = queue.seconds(row["MaxWall"])
        if wall is not None:
            limits["MaxWall"] = wall // 60
        if row["MaxSubmitPU"].isdigit():
            limits["MaxSubmitPU"] = int(row["MaxSubmitPU"])
        for field in _TRES:
            for name, value, unit in re.findall(r"([^=,]+)=(\d+)([KMGTP]?)", row[field]):
                limits[f"{field} {name}"] = int(value) * _MEGABYTES.get(unit, 1)
        found[row["Name"]] = Qos(limits, "OverPartQOS" in row["Flags"].split(","))
    return found


def in_force(job: Qos | None, partition: Qos | None) -> dict[str, float]:
    """The limits that hold for a job of one QOS in a partition with another; None: there is none."""
    of_job, of_partition = (dict(one.limits) if one else {} for one in (job, partition))
    return {**of_partition, **of_job} if job and job.over_partition else {**of_job, **of_partition}


def over_limits(settings: ClusterSettings, jobs: int, limits: Mapping[str, float]) -> list[str]:
    """A line for each limit that the settings are over, with the most that would be allowed."""
    found = []
    where = f"QOS {settings.qos!r}" if settings.qos else "the partition's QOS"
    if settings.time > limits.get("MaxWall", settings.time):
        found.append(
            f"cluster.time = {settings.time} minutes: {where} allows at most {limits['MaxWall']:.0f} "
            "(MaxWall); longer work goes on in the next start by itself"
        )
    if jobs > limits.get("MaxSubmitPU", jobs):
        most = limits["MaxSubmitPU"]
        found.append(
            f"{jobs} jobs: {where} takes at most {most:.0f} at once (MaxSubmitPU); use fewer --tasks"
        )
    for key, name, unit, asked in _asked(settings):
        most, limit = min(
            ((limits[f"{field} {name}"], field) for field in _TRES if f"{field} {name}" in limits),
            default=(asked, ""),
        )
        if asked > most:
            found.append(
                f"{key}: {asked:.0f}{unit} in all, but {where} allows at most {most:.0f}{unit} "
                f"({limit} {name})"
            )
    return found


def _asked(settings: ClusterSettings) -> list[tuple[str, str, str, float]]:
    """(key, Slurm's name, unit, how much) of what one job asks for."""
    gpus = settings.nodes * settings.gpus_per_node
    asked: list[tuple[str, str, str, float]] = [
        (f"cluster.nodes = {settings.nodes}", "node", "", settings.nodes),
        (
            f"cluster.cpus_per_task = {settings.cpus_per_task}",
            "cpu",
            " CPUs",
            settings.processes * settings.cpus_per_task,
        ),
        (f"cluster.gpus_per_node = {settings.gpus_per_node}", "gres/gpu", " GPUs", gpus),
    ]
    if settings.gpu_type:
        asked.append(
            (f"cluster.gpu_type = {settings.gpu_type!r}", f"gres/gpu:{settings.gpu_type}", " GPUs", gpus)
        )
    if settings.memory:
        unit = settings.memory[-1]
        size = int(settings.memory.rstrip("KMGT")) * _MEGABYTES.get(unit, 1) * settings.nodes
        asked.append((f"cluster.memory = {settings.memory!r}", "mem", "M", size))
    return asked

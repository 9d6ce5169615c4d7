"""What a cluster cannot give, found before anything is submitted, with the nearest that it can."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from reelmill.cluster import queue
from reelmill.cluster.disks import disk_problem, disks_here
from reelmill.cluster.queue import Node, Partition
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import RequestError


def refuse_impossible(settings: ClusterSettings, directory: Path) -> None:
    """Ask Slurm what it has; RequestError naming every key that asks for more, or the disk nodes do not
    see.
    """
    problems = request_problems(settings, queue.partitions(), queue.nodes())
    unseen = disk_problem(directory, settings.shared_disks, disks_here())
    if problems or unseen:
        raise RequestError("\n".join([*problems, *([unseen] if unseen else [])]))


def request_problems(
    settings: ClusterSettings, partitions: Sequence[Partition], nodes: Sequence[Node]
) -> list[str]:
    """One line for each setting that the partition's nodes or limits cannot meet."""
    names = [partition.name for partition in partitions]
    if settings.partition:
        chosen = [partition for partition in partitions if partition.name == settings.partition]
        if not chosen:
            near = difflib.get_close_matches(settings.partition, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            return [f"cluster.partition = {settings.partition!r}: no such partition; {hint}"]
    else:
        chosen = [partition for partition in partitions if partition.default]
        if not chosen:
            return [
                f"cluster.partition: this cluster has no default partition; set one of {', '.join(names)}"
            ]
    partition = chosen[0]
    found = []
    if not partition.up:
        found.append(f"cluster.partition = {partition.name!r}: this partition is not up")
    if partition.max_minutes is not None and settings.time > partition.max_minutes:
        found.append(
            f"cluster.time = {settings.time} minutes: partition {partition.name!r} allows at most "
            f"{partition.max_minutes}; longer work goes on in the next start by itself"
        )
    members = [node for node in nodes if node.partition == partition.name]
    if members:
        found += _node_problems(settings, partition.name, members)
    return found


def _node_problems(settings: ClusterSettings, partition: str, members: Sequence[Node]) -> list[str]:
    found = []
    if settings.nodes > len(members):
        found.append(f"cluster.nodes = {settings.nodes}: partition {partition!r} has {len(members)}")
    types = sorted({kind for node in members for kind in node.gpus if kind})
    if settings.gpu_type and settings.gpu_type not in types:
        offered = f"nodes have {', '.join(types)}" if types else "its GPUs have no type: leave gpu_type empty"
        found.append(f"cluster.gpu_type = {settings.gpu_type!r}: not in partition {partition!r}; {offered}")
    elif settings.gpus_per_node:
        most = max(
            node.gpus.get(settings.gpu_type, 0) if settings.gpu_type else sum(node.gpus.values())
            for node in members
        )
        if settings.gpus_per_node > most:
            found.append(
                f"cluster.gpus_per_node = {settings.gpus_per_node}: "
                f"a node of partition {partition!r} has at most {most}"
            )
    cpus = settings.tasks_per_node * settings.cpus_per_task
    most_cpus = max(node.cpus for node in members)
    if cpus > most_cpus:
        found.append(
            f"cluster.cpus_per_task = {settings.cpus_per_task} for {settings.tasks_per_node} tasks "
            f"is {cpus} CPUs: a node of partition {partition!r} has at most {most_cpus}"
        )
    most_memory = max(node.memory_megabytes for node in members)
    if settings.memory and megabytes(settings.memory) > most_memory:
        found.append(
            f"cluster.memory = {settings.memory!r}: "
            f"a node of partition {partition!r} has at most {most_memory}M"
        )
    return found


def refuse_array(tasks: int) -> None:
    """RequestError if Slurm keeps fewer jobs in all than an array of ``tasks`` would add."""
    most = int(queue.configuration().get("MaxJobCount", "10000"))
    if tasks > most:
        raise RequestError(f"--tasks {tasks}: this cluster keeps at most {most} jobs at once (MaxJobCount)")


def array_sizes(tasks: int, max_array_size: int) -> list[int]:
    """``tasks`` split into arrays that each stay under Slurm's MaxArraySize (one more than the highest
    index).
    """
    most = max(1, max_array_size - 1)
    return [most] * (tasks // most) + ([tasks % most] if tasks % most else [])


def megabytes(memory: str) -> int:
    """Megabytes in Slurm's spelling, where a bare number is megabytes."""
    factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}.get(memory[-1])
    return int(memory) if factor is None else int(int(memory[:-1]) * factor)

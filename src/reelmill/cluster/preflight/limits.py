"""What a cluster cannot give, found before anything is submitted, with the nearest that it can."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from reelmill.cluster import queue
from reelmill.cluster.preflight.disks import disk_problem, disks_here
from reelmill.cluster.queue import Node
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import RequestError


def refuse_impossible(settings: ClusterSettings, directory: Path) -> None:
    """Ask Slurm what it has; RequestError names keys that ask for more, or a disk that nodes do not see."""
    refuse_percent(directory)
    problems = problems_now(settings)
    unseen = disk_problem(directory, settings.shared_disks, disks_here())
    if problems or unseen:
        raise RequestError("\n".join([*problems, *([unseen] if unseen else [])]))


def refuse_percent(directory: Path) -> None:
    """RequestError if Slurm would read part of a log's path as the number or the name of a job."""
    if "%" in str(directory.absolute()):
        raise RequestError(
            f"{directory}: the path {directory.absolute()} holds '%', which Slurm replaces in paths of logs "
            "(%a, %j, %x …): choose another name"
        )


def problems_now(settings: ClusterSettings) -> list[str]:
    """One line for each setting that this cluster's partition does not allow; it is asked."""
    return request_problems(settings, queue.nodes())


def request_problems(settings: ClusterSettings, nodes: Sequence[Node]) -> list[str]:
    """One line for each setting that the nodes or limits of its partition cannot meet."""
    wanted = settings.partition
    members = [node for node in nodes if node.partition == wanted or (node.default and not wanted)]
    if not members:
        return [_no_partition(wanted, sorted({node.partition for node in nodes}))]
    name, most, found = members[0].partition, members[0].max_minutes, []
    if not members[0].up:
        found.append(f"cluster.partition = {name!r}: this partition is not up")
    if most is not None and settings.time > most:
        found.append(
            f"cluster.time = {settings.time} minutes: partition {name!r} allows at most {most}; longer work "
            "goes on in the next start by itself"
        )
    return found + _node_problems(settings, name, members)


def _no_partition(wanted: str, names: Sequence[str]) -> str:
    if not wanted:
        return f"cluster.partition: this cluster has no default partition; set one of {', '.join(names)}"
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return f"cluster.partition = {wanted!r}: no such partition; {hint}"


def _node_problems(settings: ClusterSettings, partition: str, members: Sequence[Node]) -> list[str]:
    found = []
    if settings.nodes > len(members):
        found.append(f"cluster.nodes = {settings.nodes}: partition {partition!r} has {len(members)}")
    types = sorted({kind for node in members for kind in node.gpus if kind})
    if settings.gpus_per_node and settings.gpu_type and settings.gpu_type not in types:
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


def refuse_array(tasks: int, beside: int = 0) -> None:
    """RequestError if the controller cannot hold an array of ``tasks``, and ``beside`` jobs of its chain.

    It does not accept what would reach MaxJobCount, and sbatch then tries again for ever. Jobs of others
    count too, which cannot be foreseen.
    """
    least_too_many = int(queue.configuration().get("MaxJobCount", "10000"))
    most = least_too_many - 1 - beside
    if tasks > most:
        chain = f" and {beside} jobs beside them" if beside else ""
        raise RequestError(
            f"--tasks {tasks}{chain}: this cluster keeps at most {least_too_many - 1} jobs at once "
            f"(MaxJobCount = {least_too_many}); use --tasks {max(1, most)} or fewer"
        )


def megabytes(memory: str) -> int:
    """Megabytes in Slurm's spelling, where a bare number is megabytes."""
    factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}.get(memory[-1])
    return int(memory) if factor is None else int(int(memory[:-1]) * factor)

"""What Slurm says, read with limits: jobs in the queue, jobs that ended, partitions, nodes, configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelmill.cluster.environment import client_environment
from reelmill.errors import IncompleteError, RequestError

SECONDS = 30
"""How long a Slurm command may take; a busy controller answers in a few."""

FINAL = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "TIMEOUT",
)  # fmt: skip
"""States of jobs that will not run again."""


@dataclass(frozen=True)
class QueuedJob:
    """One line of squeue. ``job`` is 123, or 123_4 for an array element; times in seconds. ``script`` is the
    path of its batch script, ``after`` the jobs that it waits for as squeue spells them.
    """

    job: str
    state: str
    reason: str
    nodes: str
    elapsed: int
    left: int | None
    after: str = ""
    script: str = ""

    @property
    def number(self) -> str:
        """The job's number, or its array's."""
        return self.job.split("_")[0]

    @property
    def stage(self) -> str:
        """The stage that its submission's folder names, STAGE-TIME; "" for other people's jobs."""
        folder = next((part for part in Path(self.script).parts if re.match(r"[a-z]+-\d{8}-", part)), "")
        return folder.partition("-")[0]

    @property
    def waits_for(self) -> set[str]:
        """Numbers of the jobs that have to end before it starts: of afterok:12(unfulfilled),afterany:13_*."""
        return set(re.findall(r"[:,](\d+)", self.after))


@dataclass(frozen=True)
class Node:
    """One node of a ``partition``, and what that allows: ``max_minutes`` None is no limit. ``gpus`` counts by
    type; '' is a type without a name.
    """

    partition: str
    cpus: int
    memory_megabytes: int
    gpus: dict[str, int]
    default: bool = False
    up: bool = True
    max_minutes: int | None = None


def slurm_here() -> bool:
    """Whether Slurm's commands are installed."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def ask(*command: str) -> str:
    """Standard output of one Slurm command, whatever options of its own the environment holds. RequestError
    if it is not installed, IncompleteError if it fails.
    """
    environment = client_environment(os.environ)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
        )
    except FileNotFoundError:
        raise RequestError(
            f"{command[0]}: not installed here; submit from a machine that has Slurm's commands"
        ) from None
    except subprocess.TimeoutExpired:
        raise IncompleteError(
            f"{command[0]}: no answer from Slurm in {SECONDS} seconds; try again later"
        ) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise IncompleteError(f"{command[0]} failed: {said}")
    return done.stdout


def listed(users: Iterable[int]) -> list[QueuedJob]:
    """All jobs of users (by number) that are in the queue, array elements one each.

    Raises IncompleteError where Slurm does not answer, or does not show this user the jobs of another one.
    """
    others = set(users) - {os.getuid()}
    if others and "jobs" in configuration().get("PrivateData", "").lower().split(","):
        raise IncompleteError(
            f"jobs of user {', '.join(map(str, sorted(others)))} may be in the queue: this Slurm shows them "
            "to nobody else (PrivateData = jobs), so ask that user"
        )
    asked = ",".join(map(str, sorted({os.getuid(), *others})))
    # Not `-j LIST`: squeue fails when one job of the list is forgotten already. `-a`: hidden partitions too.
    lines = ask("squeue", "-h", "-r", "-a", "-u", asked, "-o", "%i|%T|%r|%N|%M|%L|%E|%o").splitlines()
    found = []
    for line in lines:
        job, state, reason, nodes, elapsed, left, after, script = line.split("|", 7)
        times = seconds(elapsed) or 0, seconds(left)
        found.append(QueuedJob(job, state, reason, nodes, *times, after, script))
    return found


def ended(jobs: Sequence[str]) -> dict[str, str]:
    """State by job id (123, or 123_4) as accounting has it; empty where there is no accounting."""
    return _states("sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(jobs)) if jobs else {}


def ended_lately(jobs: Sequence[str]) -> dict[str, str]:
    """The same of jobs that have just ended, of which the controller knows more than accounting yet does."""
    found = ended(jobs)
    for job in jobs:
        told = _states("squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i|%T", "-j", job)
        found |= {name: state for name, state in told.items() if found.get(name) not in FINAL}
    return found


def _states(*question: str) -> dict[str, str]:
    try:
        rows = (line.split("|", 1) for line in ask(*question).splitlines())
    except (IncompleteError, RequestError):
        return {}
    return {job: state.split()[0] for names, state in rows if state for job in elements(names)}


def elements(job: str) -> list[str]:
    """A job itself, or the array elements in what accounting lists as one (never started): 123_[0-2,7%4]."""
    matched = re.fullmatch(r"(\d+)_\[(.*?)(?:%\d+)?\]", job)
    if matched is None:
        return [job]
    ranges = re.findall(r"(\d+)(?:-(\d+)(?::(\d+))?)?", matched[2])
    return [
        f"{matched[1]}_{number}"
        for first, last, step in ranges
        for number in range(int(first), int(last or first) + 1, int(step or 1))
    ]


def nodes() -> list[Node]:
    """All nodes of the partitions that this user may see, once for each partition they are in."""
    found = []
    for line in ask("sinfo", "-h", "-N", "-o", "%P|%a|%l|%c|%m|%G").splitlines():
        name, state, limit, cpus, memory, gres = line.split("|")
        longest = seconds(limit)
        minutes = None if longest is None else longest // 60
        hardware = int(cpus), int(memory), gpus(gres)
        found.append(Node(name.rstrip("*"), *hardware, name.endswith("*"), state == "up", minutes))
    return found


def configuration() -> dict[str, str]:
    """Slurm's configuration by key, as ``scontrol show config`` prints it."""
    pairs = (line.split("=", 1) for line in ask("scontrol", "show", "config").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def node_hosts() -> set[str]:
    """The host names behind the nodes; several nodes may be one host."""
    return set(re.findall(r"NodeHostName=(\S+)", ask("scontrol", "show", "node", "-o")))


def seconds(text: str) -> int | None:
    """Seconds in Slurm's [days-]hours:minutes:seconds; None for UNLIMITED and the like.

    Two parts are minutes:seconds, one is minutes.
    """
    matched = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if matched is None:
        return None
    days, first, second, third = (None if part is None else int(part) for part in matched.groups())
    if days is not None or third is not None:
        hours, minutes, rest = first or 0, second or 0, third or 0
    else:
        hours, minutes, rest = 0, first or 0, second or 0
    return ((days or 0) * 24 + hours) * 3600 + minutes * 60 + rest


def gpus(gres: str) -> dict[str, int]:
    """GPUs by type in Slurm's generic resources: gpu:2, gpu:a100:4(S:0-1),shard:8."""
    found: dict[str, int] = {}
    for name, count in re.findall(r"(?:^|,)gpu(?::([^:,()]+))??:(\d+)", gres):
        found[name] = found.get(name, 0) + int(count)
    return found

"""Settings of a place to run: what a job asks for, how it is set up, when it gives up.

A cluster file holds these keys; sections ``train``, ``generate`` and ``collect`` change them for one kind
of job:

    partition: gpu
    time: 1440
    train: {nodes: 2, tasks_per_node: 4, gpus_per_node: 4}
    generate: {gpus_per_node: 1, array_parallelism: 100}
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from reelmill.cluster import queue
from reelmill.cluster.environment import looks_secret
from reelmill.cluster.preflight.extra import extra_problem
from reelmill.config import nearest, parse, read_value, read_yaml
from reelmill.errors import RequestError
from reelmill.settings import STRICT

Stage = Literal["train", "generate", "collect"]
STAGES: tuple[Stage, ...] = ("train", "generate", "collect")
Count = Annotated[int, Field(ge=1)]


def _minutes(value: Any) -> Any:
    seconds = queue.seconds(value) if isinstance(value, str) else None
    return value if seconds is None else -(-seconds // 60)


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What one job asks for. An empty text means: not asked, the cluster's default holds."""

    scheduler: Literal["slurm", "local"] = "slurm"  # local: processes on this machine, no Slurm
    partition: str = ""
    account: str = ""
    qos: str = ""
    nodes: Count = 1
    tasks_per_node: Count = 1  # one a GPU, where there are GPUs
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    gpu_type: str = ""  # as the cluster calls it: a100
    cpus_per_task: Count = 1
    memory: str = ""  # of a node, in Slurm's spelling: 64G
    # Minutes, in a file also as Slurm spells them (4:00:00, 1-0). Longer work goes on in the next start.
    time: Annotated[Count, BeforeValidator(_minutes)] = 60
    exclude: str = ""  # nodes: n[3,7-9]
    warning: Annotated[int, Field(ge=5)] = 120  # seconds before the limit at which a job is asked to stop
    max_starts_without_progress: Count = 2  # then a job ends, instead of being queued again
    array_parallelism: Count = 64  # tasks of an array that run at once
    collect_rounds: Annotated[int, Field(ge=0)] = 2  # times the collect job may submit again what is missing
    extra: list[str] = field(default_factory=list)  # further sbatch options: --constraint=a100
    setup: list[str] = field(default_factory=list)  # shell lines before the job: module load cuda
    python: str = ""  # command that starts Python on a node; empty: this interpreter
    pass_environment: list[str] = field(default_factory=list)  # names of further variables a job may see
    shared_disks: list[str] = field(
        default_factory=list
    )  # directories that nodes see, whatever they are here

    __pydantic_config__ = STRICT

    @property
    def processes(self) -> int:
        """World size: tasks over all nodes."""
        return self.nodes * self.tasks_per_node

    @property
    def interpreter(self) -> str:
        """The shell words that start Python in the job."""
        return self.python or shlex.quote(sys.executable)


def load_cluster(path: str | Path, stage: Stage, overrides: Sequence[str] = ()) -> ClusterSettings:
    """The settings of one stage in a cluster file, with ``cluster.key=value`` overrides applied.

    Raises RequestError naming the file and the key.
    """
    data: dict[str, Any] = read_yaml(path)
    keys = [*(item.name for item in fields(ClusterSettings)), *STAGES]
    unknown = [f"{path}: unknown key {key!r}{nearest(str(key), keys)}" for key in data if key not in keys]
    if unknown:
        raise RequestError("\n".join(unknown))
    sections = {name: data.pop(name, {}) for name in STAGES}
    for name, given in sections.items():
        if not isinstance(given, dict):
            raise RequestError(f"{path}: {name} = {given!r}: expected keys")
        sections[name] = {key: value for key, value in given.items() if value is not None}
    # Every section is read, so that a typo in one is found before a chain has come to it.
    settings = {
        name: _parse({**data, **sections[name]}, f"{path} ({name})" if sections[name] else str(path))
        for name in STAGES
    }
    if not overrides:
        return settings[stage]
    return _parse({**data, **sections[stage], **dict(map(_override, overrides))}, f"{path} and command line")


def load_clusters(path: str | Path, overrides: Sequence[str] = ()) -> dict[Stage, ClusterSettings]:
    """The settings of every stage in a cluster file; see ``load_cluster``."""
    return {stage: load_cluster(path, stage, overrides) for stage in STAGES}


def _parse(data: dict[str, Any], source: str) -> ClusterSettings:
    settings = parse(ClusterSettings, data, source)
    found = [f"{source}: {problem}" for problem in _problems(settings)]
    if found:
        raise RequestError("\n".join(found))
    return settings


def _problems(settings: ClusterSettings) -> Iterator[str]:
    if settings.gpus_per_node and settings.tasks_per_node != settings.gpus_per_node:
        yield (
            f"one task a GPU: gpus_per_node = {settings.gpus_per_node}, so tasks_per_node should be "
            f"{settings.gpus_per_node} too, not {settings.tasks_per_node}"
        )
    if settings.memory and not re.fullmatch(r"\d+[KMGT]?", settings.memory):
        yield f"memory = {settings.memory!r}: expected a number with K, M, G or T, for example 64G"
    if settings.warning >= settings.time * 60:
        yield f"warning = {settings.warning} seconds: must be shorter than time = {settings.time} minutes"
    yield from filter(None, map(extra_problem, settings.extra))
    for name in settings.pass_environment:
        if looks_secret(name):
            yield (
                f"pass_environment: {name!r} looks like a secret, and Slurm stores what it is handed; jobs "
                "read Comet's key from Comet's file: run `comet login`; others `setup` can read from a file"
            )


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.startswith("cluster."):
        raise RequestError(f"{text!r}: expected cluster.key=value, for example cluster.nodes=2")
    return key.removeprefix("cluster."), read_value(value, text)

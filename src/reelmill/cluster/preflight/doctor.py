"""Everything that would go wrong later, looked at now: this machine, the cluster's limits, and the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from reelmill.audio.settings import AudioSettings
from reelmill.cluster import queue
from reelmill.cluster.preflight import limits
from reelmill.cluster.preflight.disks import Disks, disk_problem, disks_here
from reelmill.cluster.preflight.machine import (
    Finding,
    SongsToCome,
    abc2midi,
    comet_key,
    disk,
    disk_for_songs,
    disk_room,
    finding,
    python_packages,
    soundfont,
)
from reelmill.cluster.preflight.probe import probe
from reelmill.cluster.settings import ClusterSettings, Stage, load_clusters
from reelmill.errors import IncompleteError, RequestError


def examine(
    cluster: Path | None,
    place: Path,
    wait: float = 300,
    environ: Mapping[str, str] = os.environ,
    songs: SongsToCome | None = None,
) -> Iterator[Finding]:
    """All checks in order, each as soon as it is done.

    ``place`` is where runs and ``songs`` will lie. With a ``cluster`` file its limits are checked, and probes
    are sent to the nodes of its stages; ``wait`` is how many seconds they may stay in the queue.
    """
    settings = load_clusters(cluster) if cluster else {}
    audio = songs.config.audio if songs else AudioSettings()
    yield python_packages()
    written = disk(place)
    yield written
    yield disk_room(place)
    if songs:
        yield disk_for_songs(songs, place)
    yield abc2midi()
    yield soundfont(audio)
    yield comet_key(environ, cluster is not None)
    if all(setting.scheduler == "local" for setting in settings.values()):
        return
    answered = slurm()
    yield answered
    if answered.state == "wrong":
        return
    try:
        yield from _cluster(settings, place, wait, audio, probed=written.state != "wrong")
    except (IncompleteError, RequestError) as error:  # its controller stopped answering
        yield Finding("Slurm", "wrong", str(error), "run doctor again; what is said above holds")


def _cluster(
    settings: Mapping[Stage, ClusterSettings], place: Path, wait: float, audio: AudioSettings, probed: bool
) -> Iterator[Finding]:
    yield accounting()
    yield array_limit(queue.configuration())
    fits = probed
    for stage, setting in settings.items():
        for found in request(stage, setting):
            fits &= found.state != "wrong"
            yield found
    yield from nodes_disk(
        {item for one in settings.values() for item in one.shared_disks}, place, disks_here()
    )
    if fits:
        yield from probe(settings, place, wait, audio)


def slurm() -> Finding:
    """Whether Slurm's commands are here and its controller answers."""
    if not queue.slurm_here():
        return Finding(
            "Slurm", "wrong", "no sbatch or squeue here", "run this on a login node; to try: make slurm-up"
        )
    fix = "check SLURM_CONF, or ask the cluster's support whether the controller is up"
    return finding("Slurm", lambda: f"{len({node.partition for node in queue.nodes()})} partitions", fix)


def accounting() -> Finding:
    """Whether Slurm remembers how jobs ended."""
    try:
        queue.ask("sacct", "-X", "-n", "-S", "now")
    except (IncompleteError, RequestError) as error:
        return Finding(
            "accounting", "warning", str(error), "status then shows no job that has ended; nothing to do"
        )
    return Finding("accounting", "ok", "sacct answers")


def array_limit(configuration: Mapping[str, str]) -> Finding:
    """Whether arrays may be submitted at all, and how long one may be."""
    most = int(configuration.get("MaxArraySize", "1001")) - 1
    if most < 1:
        return Finding(
            "array size",
            "wrong",
            "MaxArraySize forbids arrays",
            "use --tasks 1, or ask for arrays to be allowed",
        )
    return Finding("array size", "ok", f"{most} tasks an array; more are split into several")


def request(stage: str, settings: ClusterSettings) -> Iterator[Finding]:
    """Whether the partition can give what a stage asks for, and its QOS allows it."""
    problems = limits.problems_now(settings)
    for problem in problems:
        seen, _, right = problem.partition(": ")
        yield Finding(f"{stage} request", "wrong", seen, right)
    if not problems:
        yield Finding(f"{stage} request", "ok", f"partition {settings.partition or '(default)'} can give it")


def nodes_disk(shared: Iterable[str], place: Path, disks: Disks) -> Iterator[Finding]:
    """A finding if submission would be refused for the disk that ``place`` lies on; the probe tells more."""
    problem = disk_problem(place, shared, disks)
    if problem:
        seen, _, right = problem.partition("; ")
        yield Finding("disk seen from here", "wrong", seen, right)

"""Everything that would go wrong later, looked at now: this machine, the cluster's limits, and the nodes.

Each check gives a ``Finding``; one that is not well says how to mend it. A warning is something to know.
"""

from __future__ import annotations

import configparser
import importlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reelmill.audio.settings import AudioSettings
from reelmill.cluster import limits, queue
from reelmill.cluster.disks import Disks, disk_problem, disks_here
from reelmill.cluster.settings import ClusterSettings, Stage, load_clusters
from reelmill.config import Config
from reelmill.errors import IncompleteError, RequestError
from reelmill.room import existing, free_bytes, size_text
from reelmill.songs.results.disk import TAKE_LESS, foretell_disk

PACKAGES = ("torch", "accelerate", "datasets", "safetensors", "submitit", "symusic", "soundfile", "comet_ml")
ROOM = 5 * 10**9
"""Bytes that a run with its checkpoints and some thousands of songs take."""


@dataclass(frozen=True)
class SongsToCome:
    """So many songs, with the settings that they are to be made with."""

    songs: int
    config: Config
    audio: bool = True


@dataclass(frozen=True)
class Finding:
    """What one check saw. ``fix`` is empty where all is well."""

    check: str
    state: Literal["ok", "warning", "wrong"]
    seen: str
    fix: str = ""

    def describe(self) -> str:
        """A line for a person, and another with the fix."""
        line = f"{self.state:8}{self.check}: {self.seen}"
        return f"{line}\n        → {self.fix}" if self.fix else line


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
        for finding in request(stage, setting):
            fits &= finding.state != "wrong"
            yield finding
    yield from nodes_disk(
        {item for one in settings.values() for item in one.shared_disks}, place, disks_here()
    )
    if fits:
        from reelmill.cluster.probe import probe

        yield from probe(settings, place, wait, audio)


def python_packages(names: tuple[str, ...] = PACKAGES) -> Finding:
    """Whether what reelmill needs can be imported here."""
    missing = [f"{name} ({problem})" for name in names if (problem := import_problem(name))]
    if missing:
        return Finding(
            "Python packages", "wrong", "; ".join(missing), "run `make setup`, then use its Python"
        )
    return Finding("Python packages", "ok", f"{len(names)} import")


def import_problem(name: str) -> str:
    """Why a package cannot be imported; empty if it can."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return ""


def disk(place: Path) -> Finding:
    """Whether runs can be written at ``place``: a file is, and goes again."""
    exists = existing(place)
    try:
        with tempfile.TemporaryFile(dir=exists) as file:
            file.write(b"reelmill")
    except OSError as error:
        return Finding(
            "disk",
            "wrong",
            f"{exists} cannot be written ({error.strerror})",
            "give another directory with --place",
        )
    return Finding("disk", "ok", f"{exists} can be written")


def disk_room(place: Path, room: int = ROOM) -> Finding:
    """Whether there is room for runs at ``place``."""
    exists, free = existing(place), free_bytes(place)
    if free < room:
        return Finding(
            "disk room",
            "wrong",
            f"{exists}: {size_text(free)} free of {size_text(room)} wanted",
            "delete runs you no longer need, have `reelmill clean RUN` remove what kills left in the others, "
            "or use a roomier disk",
        )
    return Finding("disk room", "ok", f"{exists}: {size_text(free)} free")


def disk_for_songs(songs: SongsToCome, place: Path) -> Finding:
    """Whether there is room for ``songs`` at ``place``, as their settings foretell."""
    taken = foretell_disk(songs.config, songs.songs, songs.audio).total
    free = free_bytes(place)
    kinds = "with sound" if songs.audio else "without sound"
    seen = (
        f"{songs.songs:,} songs {kinds} take about {size_text(taken)}; {size_text(free)} are free at {place}"
    )
    if taken > free:
        return Finding("disk for songs", "wrong", seen, f"use a roomier disk, or fewer songs; {TAKE_LESS}")
    return Finding("disk for songs", "ok", seen)


def abc2midi() -> Finding:
    """Whether abc2midi is there and runs."""
    from reelmill.audio import abc2midi

    return _finding("abc2midi", abc2midi.version, "pip install symusic==0.5.8, or apt-get install abcmidi")


def soundfont(settings: AudioSettings) -> Finding:
    """Whether there is the soundfont of ``settings``."""
    from reelmill.audio.soundfont import soundfont

    return _finding(
        "soundfont",
        lambda: str(soundfont(settings)),
        "run `make setup` where there is a network, or set audio.soundfont to the path of an .sf2 file",
    )


def comet_key(environ: Mapping[str, str], for_jobs: bool) -> Finding:
    """Whether Comet's key lies where jobs find it: in its file, never in what is handed to Slurm."""
    home = Path(environ.get("HOME", "~")).expanduser()
    file = Path(environ.get("COMET_CONFIG") or home / ".comet.config").expanduser()
    stored = configparser.ConfigParser(interpolation=None)
    try:
        stored.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return Finding("Comet key", "wrong", f"{file} cannot be read", "write it again with `comet login`")
    if stored.get("comet", "api_key", fallback=""):
        return Finding("Comet key", "ok", f"in {file}")
    if environ.get("COMET_API_KEY") and for_jobs:
        return Finding(
            "Comet key",
            "wrong",
            "only in COMET_API_KEY, which jobs are not given (Slurm would store it)",
            f"run `comet login`, which writes {file}",
        )
    if environ.get("COMET_API_KEY"):
        return Finding("Comet key", "ok", "in COMET_API_KEY")
    return Finding(
        "Comet key", "warning", "none: metrics go to an offline archive", "to see runs live: `comet login`"
    )


def slurm() -> Finding:
    """Whether Slurm's commands are here and its controller answers."""
    if not queue.slurm_here():
        return Finding(
            "Slurm", "wrong", "no sbatch or squeue here", "run this on a login node; to try: make slurm-up"
        )
    fix = "check SLURM_CONF, or ask the cluster's support whether the controller is up"
    return _finding("Slurm", lambda: f"{len(queue.partitions())} partitions", fix)


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


def _finding(check: str, see: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(check, "ok", see())
    except (IncompleteError, RequestError) as error:
        return Finding(check, "wrong", str(error), fix)

"""What is looked at on one machine, this one or a node: packages, programs, the disk, Comet's key.

Each check gives a ``Finding``; one that is not well says how to mend it. A warning is something to know.
"""

from __future__ import annotations

import configparser
import importlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reelmill.audio.settings import AudioSettings
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

    return finding("abc2midi", abc2midi.version, "pip install symusic==0.5.8, or apt-get install abcmidi")


def soundfont(settings: AudioSettings) -> Finding:
    """Whether there is the soundfont of ``settings``."""
    from reelmill.audio.soundfont import soundfont

    return finding(
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
        "Comet key", "warning", "none: `reelmill track` makes an archive", "to see runs live: `comet login`"
    )


def finding(check: str, see: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(check, "ok", see())
    except (IncompleteError, RequestError) as error:
        return Finding(check, "wrong", str(error), fix)

"""The abc2midi program: finding it, and running it on one tune.

It exits 0 on every bad input and says ``Error in line-char L-C : …`` instead. A tune gets a process of its
own: several in one call change each other's MIDI.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from reelmill.anonymous import anonymous_file, contents
from reelmill.audio import process
from reelmill.audio.process import ToolError
from reelmill.errors import RequestError

ENVIRONMENT = "REELMILL_ABC2MIDI"
_ATTEMPTS = 3
_FIX = f"install symusic 0.5.8 (its wheel carries one) or Debian's abcmidi, or set {ENVIRONMENT} to its path"


@dataclass(frozen=True)
class Conversion:
    """What abc2midi made of a tune: MIDI bytes (empty if it made none), its messages, and how it failed."""

    midi: bytes
    messages: list[str]
    failure: str  # "" if it ended normally, else for example "ended by SIGSEGV"


def convert(tune: str, seconds: float) -> Conversion:
    """Run abc2midi on ``tune``, whose first field is ``X:1``. ``seconds`` is the limit of the wall clock.

    A crash, an exit code or the end of its CPU time follows from the tune, if it happens twice alike: that is
    a ``failure``. Raises ToolError if the clock or the machine ends it three times, or it ends differently
    each time; RequestError if there is no abc2midi.
    """
    limits = process.Limits(seconds=seconds, cpu_seconds=3, memory=512 << 20, file_size=16 << 20)
    failures: list[str] = []
    for _ in range(_ATTEMPTS):
        with anonymous_file(tune.encode()) as source, anonymous_file() as target:
            ending = process.run(
                [str(program()), "/dev/fd/3", "1", "-o", "/dev/fd/4"], limits, [source, target]
            )
            midi = contents(target)
        if ending.code == 0:
            return Conversion(midi, _lines(ending.output), "")
        if not ending.by_machine and ending.words in failures:
            return Conversion(b"", _lines(ending.output), ending.words)
        failures.append(ending.words)
    raise ToolError(f"abc2midi failed {_ATTEMPTS} times on one tune: {', '.join(failures)}")


@functools.cache
def program() -> Path:
    """The abc2midi to use: $REELMILL_ABC2MIDI, else the one in symusic's wheel, else the one on the PATH."""
    override = os.environ.get(ENVIRONMENT)
    if override:
        if not _runs(Path(override)):
            raise RequestError(f"{ENVIRONMENT}={override}: not a program; {_FIX}")
        return Path(override).absolute()
    found = importlib.util.find_spec("symusic")
    if found and found.origin and _runs(carried := Path(found.origin).parent / "bin" / "abc2midi"):
        return carried
    on_path = shutil.which("abc2midi")
    if on_path:
        return Path(on_path).absolute()
    raise RequestError(f"abc2midi not found; {_FIX}")


@functools.cache
def version() -> str:
    """What the program says of itself, for example ``4.85 December 23 2023 abc2midi``."""
    limits = process.Limits(seconds=30, cpu_seconds=10, memory=512 << 20, file_size=1 << 20)
    ending = process.run([str(program()), "-ver"], limits)
    lines = _lines(ending.output)
    if not lines:
        raise RequestError(f"{program()}: says no version ({ending.words}); {_FIX}")
    return lines[0]


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _lines(output: bytes) -> list[str]:
    return output.decode("utf-8", errors="replace").splitlines()

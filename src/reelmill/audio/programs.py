"""Synthesizers that are programs of their own: finding them and running them on one song."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

from reelmill.anonymous import anonymous_file, contents
from reelmill.audio import process
from reelmill.audio.process import Limits, ToolError
from reelmill.errors import RequestError

_ATTEMPTS = 2
_MEMORY = 4 << 30  # bytes of address space; threads and mapped soundfonts take much of it
_SHARED_MEMORY = 256 << 20  # bytes; sound servers' libraries make files of such sizes when loaded


class Synthesizer:
    """A program that plays one song a process. ``name`` is its name and its Debian package's."""

    name: ClassVar[str]
    version_argument: ClassVar[str]

    def __init__(self, soundfont: Path, sample_rate: int, channels: int) -> None:
        self._program = find(self.name, self.name)
        self._soundfont = soundfont
        self._sample_rate = sample_rate
        self._channels = channels

    @classmethod
    def version(cls) -> str:
        """The line in which the program tells its version."""
        return version(find(cls.name, cls.name), cls.version_argument)


def find(name: str, package: str) -> str:
    """The path of a program. Raises RequestError naming Debian's package if it is missing."""
    path = shutil.which(name)
    if not path:
        raise RequestError(
            f"audio.backend = {name!r}: no program {name!r} on the PATH; install Debian's {package}, "
            "or use audio.backend=symusic, which needs none"
        )
    return str(Path(path).absolute())


def version(path: str, argument: str) -> str:
    """The first line in which a program tells its version."""
    ending = process.run(
        [path, argument], Limits(seconds=30, cpu_seconds=10, memory=_MEMORY, file_size=_SHARED_MEMORY)
    )
    lines = ending.output.decode("utf-8", errors="replace").splitlines()
    numbered = [line.strip() for line in lines if re.search(r"version \d", line)]
    if not numbered:
        raise RequestError(f"{path}: says no version ({ending.words})")
    return numbered[0]


def play(
    command: Sequence[str], soundfont: Path, inputs: Sequence[bytes], seconds: float, rate: int
) -> bytes:
    """What ``command`` writes to ``/dev/fd/4``; ``/dev/fd/3`` is the soundfont, ``inputs`` come from 5 on.

    Time, CPU and size are limited in proportion to the ``seconds`` of music. Raises ToolError if it fails
    twice.
    """
    allowed = 30 + round(2 * seconds)
    size = round((seconds + 30) * rate * 2 * 4) + _SHARED_MEMORY  # two channels of four bytes, a long tail
    limits = Limits(seconds=4 * allowed, cpu_seconds=allowed, memory=_MEMORY, file_size=size)
    for _ in range(_ATTEMPTS):
        ending, output = _play_once(command, soundfont, inputs, limits)
        if ending.code == 0 and output:
            return output
    words = ending.output.decode("utf-8", errors="replace").strip().splitlines()
    raise ToolError(f"{Path(command[0]).name}: {ending.words}; {words[-1] if words else 'it says nothing'}")


def _play_once(
    command: Sequence[str], soundfont: Path, inputs: Sequence[bytes], limits: Limits
) -> tuple[process.Ending, bytes]:
    with contextlib.ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(soundfont.open("rb"))]
        output = stack.enter_context(anonymous_file())
        files += [output, *(stack.enter_context(anonymous_file(data)) for data in inputs)]
        return process.run(command, limits, files), contents(output)

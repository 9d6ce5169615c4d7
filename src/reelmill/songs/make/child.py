"""What a child process of the pool does: judges texts and records songs, one request at a time.

Requests and replies are frames on a socket, which the child finds as its standard input. It ends when the
other end is gone, so it never outlives its parent, however that dies. Run with ``python -m``.

It is a process because pure Python and the synthesizer both hold the interpreter's lock, which the sampler
needs; and because a crash here costs one request.
"""

from __future__ import annotations

import dataclasses
import resource
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelmill.audio.process import ToolError
from reelmill.audio.settings import AudioSettings
from reelmill.config import parse
from reelmill.errors import RequestError
from reelmill.songs.make.channel import Channel, Data
from reelmill.songs.make.spawn import connection

MACHINE, REQUEST, BUG = "machine", "request", "bug"
_MEMORY = 16 << 30  # bytes of address space


def main() -> None:
    """Serve until the parent is gone. The first request carries the audio settings, or null."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard == -1 else min(_MEMORY, hard), hard))
    channel = Channel(connection())
    try:
        settings = channel.receive()[0]["audio"]
        answer = _Answers(parse(AudioSettings, settings, "the plan") if settings else None)
        while True:
            request = channel.receive()
            began = _processor_seconds()
            fields, pieces = _guarded(answer, *request)
            channel.send({"fields": fields, "seconds": _processor_seconds() - began}, pieces)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


_Answer = tuple[dict[str, Any], Sequence[Data]]  # fields, and bytes in pieces


class _Answers:
    """Answers requests. What only sound needs is imported when the first sound is asked for."""

    def __init__(self, settings: AudioSettings | None) -> None:
        self._settings = settings
        self._renderer: Any = None

    def __call__(self, header: dict[str, Any], payload: Data) -> _Answer:
        if header["task"] == "judge":
            return self._judge(header)
        if header["task"] == "versions":
            from reelmill.audio.render import versions

            return versions(self._audio()), ()
        if header["task"] == "examine":
            from reelmill.songs.check.examine import examine

            directory, *arguments = header["arguments"]
            return examine(Path(directory), *arguments).to_json(), ()
        return self._record(header["facts"], bytes(payload))

    def _judge(self, header: dict[str, Any]) -> _Answer:
        from reelmill.songs.make.validate import judge

        judgement = judge(header["abc"], header["ended"], header["max_length"], header["tempos"])
        fields = {field.name: getattr(judgement, field.name) for field in dataclasses.fields(judgement)}
        return fields, (fields.pop("data"),)

    def _record(self, facts: dict[str, Any], midi: bytes) -> _Answer:
        from reelmill.audio.render import renderer
        from reelmill.songs.store.sound import record

        settings = self._audio()
        self._renderer = self._renderer or renderer(settings)
        sound = record(facts, midi, self._renderer, settings)
        return {"facts": sound.facts, "failure": sound.failure}, sound.pieces

    def _audio(self) -> AudioSettings:
        if self._settings is None:
            raise RequestError("asked for sound without audio settings")
        return self._settings


def _guarded(answer: _Answers, header: dict[str, Any], payload: Data) -> _Answer:
    try:
        return answer(header, payload)
    except RequestError as error:
        return {"error": REQUEST, "message": str(error)}, ()
    except (ToolError, OSError, MemoryError) as error:
        return {"error": MACHINE, "message": f"{type(error).__name__}: {error}"}, ()
    except Exception:
        return {"error": BUG, "message": traceback.format_exc()}, ()


def _processor_seconds() -> float:
    """Of this process and of the programs that were run."""
    programs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + programs.ru_utime + programs.ru_stime


if __name__ == "__main__":
    main()

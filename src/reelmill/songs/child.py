"""What a child process of the pool does: judges texts and records songs, one request at a time.

Requests come on standard input and replies go to standard output, each a frame of JSON and bytes. The child
ends when its input does, so it never outlives its parent, however that dies. Run with ``python -m``.

It is a process because pure Python and the synthesizer both hold the interpreter's lock, which the sampler
needs; and because a crash here costs one request.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelmill.audio.process import ToolError
from reelmill.audio.settings import AudioSettings
from reelmill.config import parse
from reelmill.errors import RequestError

Frame = tuple[dict[str, Any], bytes]
LENGTHS = struct.Struct(">QQ")  # of the JSON and of the bytes

MACHINE, REQUEST, BUG = "machine", "request", "bug"
_MEMORY = 16 << 30  # bytes of address space


def pack(header: dict[str, Any], payload: bytes = b"") -> list[bytes]:
    """A frame as the pieces to be written."""
    text = json.dumps(header).encode()
    return [LENGTHS.pack(len(text), len(payload)) + text, payload]


def unpack(read: Callable[[int], bytes]) -> Frame:
    """The next frame; ``read`` returns exactly as many bytes as it is asked for, or raises EOFError."""
    text, payload = LENGTHS.unpack(read(LENGTHS.size))
    return json.loads(read(text)), read(payload)


def main() -> None:
    """Serve until the input ends. The first request carries the audio settings, or null."""
    # A notice to stop is the parent's to act on.
    for notice in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(notice, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if hard == -1 else min(_MEMORY, hard), hard))
    # Whatever a library prints must not land between the frames.
    replies = os.dup(1)
    os.dup2(2, 1)
    try:
        settings = unpack(_read)[0]["audio"]
        answer = _Answers(parse(AudioSettings, settings, "the plan") if settings else None)
        while True:
            header, payload = unpack(_read)
            for piece in pack(*_guarded(answer, header, payload)):
                _write(replies, piece)
    except (EOFError, BrokenPipeError):
        pass


class _Answers:
    """Answers requests. What only sound needs is imported when the first sound is asked for."""

    def __init__(self, settings: AudioSettings | None) -> None:
        self._settings = settings
        self._renderer: Any = None

    def __call__(self, header: dict[str, Any], payload: bytes) -> Frame:
        if header["task"] == "judge":
            return self._judge(header)
        if header["task"] == "versions":
            from reelmill.audio.render import versions

            return versions(self._audio()), b""
        if header["task"] == "examine":
            from reelmill.songs.examine import examine

            directory, *arguments = header["arguments"]
            return examine(Path(directory), *arguments).to_json(), b""
        return self._record(header["facts"], payload)

    def _judge(self, header: dict[str, Any]) -> Frame:
        from reelmill.songs.attempt import judge

        judgement = judge(header["abc"], header["ended"], header["max_length"])
        fields = {field.name: getattr(judgement, field.name) for field in dataclasses.fields(judgement)}
        return fields, fields.pop("data")

    def _record(self, facts: dict[str, Any], midi: bytes) -> Frame:
        from reelmill.audio.render import renderer
        from reelmill.songs.sound import record

        settings = self._audio()
        self._renderer = self._renderer or renderer(settings)
        sound = record(facts, midi, self._renderer, settings)
        return {"facts": sound.facts, "failure": sound.failure}, sound.data

    def _audio(self) -> AudioSettings:
        if self._settings is None:
            raise RequestError("asked for sound without audio settings")
        return self._settings


def _guarded(answer: _Answers, header: dict[str, Any], payload: bytes) -> Frame:
    try:
        return answer(header, payload)
    except RequestError as error:
        return {"error": REQUEST, "message": str(error)}, b""
    except (ToolError, OSError, MemoryError) as error:
        return {"error": MACHINE, "message": f"{type(error).__name__}: {error}"}, b""
    except Exception:
        return {"error": BUG, "message": traceback.format_exc()}, b""


def _read(size: int) -> bytes:
    data = sys.stdin.buffer.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()

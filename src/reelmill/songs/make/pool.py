"""A few child processes that judge attempts and record songs, seen from the parent.

Each call returns a future at once. A child that hangs or dies is replaced and its request tried again; what
fails three times is a fault of the machine and says nothing about the song.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from reelmill.audio.process import ToolError
from reelmill.audio.settings import AudioSettings
from reelmill.errors import RequestError
from reelmill.resources import processors
from reelmill.songs.check.examine import Examination
from reelmill.songs.make import child
from reelmill.songs.make.channel import Channel, Data, Frame, Room, room
from reelmill.songs.make.spawn import ending, spawn
from reelmill.songs.make.validate import Judgement
from reelmill.songs.store.sound import Sound

_SECONDS = 300.0  # a judgement or a recording that takes longer is stuck
_TRIES = 3
_JUDGE, _RECORD, _STOP = 0, 1, 2  # in order of urgency: the sampler waits for judgements


class Pool:
    """``processes`` children; ``audio`` are the settings for sound, None if none will be asked for."""

    def __init__(self, audio: AudioSettings | None, processes: int | None = None) -> None:
        self.processes = processes or processors()
        self._audio = dataclasses.asdict(audio) if audio else None
        self.seconds: Counter[str] = Counter()  # of processors, by task: judge, record
        self._lock = threading.Lock()
        self._rooms: deque[Room] = deque()  # that no sound lies in
        self._order = itertools.count()
        self._requests: queue.PriorityQueue[tuple[int, int, Any]] = queue.PriorityQueue()
        self._children: set[_Child] = set()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.processes)]
        for thread in self._threads:
            thread.start()

    def judge(
        self, abc: str, ended: bool, max_length: int, tempos: Mapping[str, str] | None = None
    ) -> Future[Judgement]:
        """The judgement of a sampled text (``validate.judge``)."""
        header = {"task": "judge", "abc": abc, "ended": ended, "max_length": max_length, "tempos": tempos}
        return self._ask(_JUDGE, header, b"", lambda fields, data, _: Judgement(**fields, data=bytes(data)))

    def record(self, facts: dict[str, Any], midi: bytes) -> Future[Sound]:
        """The sound of a song (``sound.record``); call its ``release`` once it is written."""
        header = {"task": "record", "facts": facts}
        return self._ask(
            _RECORD,
            header,
            midi,
            lambda fields, data, release: Sound(**fields, pieces=(data,) if data else (), release=release),
        )

    def versions(self) -> Future[dict[str, str]]:
        """What the bytes of a recorded song depend on (``audio.render.versions``)."""
        return self._ask(_JUDGE, {"task": "versions"}, b"", lambda fields, *_: fields)

    def examine(
        self, directory: Path, number: int, first: int, count: int, audio_extension: str | None
    ) -> Future[Examination]:
        """What is wrong with a shard (``examine.examine``)."""
        arguments = [str(directory), number, first, count, audio_extension]
        header = {"task": "examine", "arguments": arguments}  # as long as the disk takes for ten gigabytes
        return self._ask(_JUDGE, header, b"", lambda fields, *_: Examination(**fields))

    def close(self) -> None:
        """End the children. Requests not begun are dropped, those in hand are cut off."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._requests.get_nowait()[2].future.cancel()
        for _ in self._threads:
            self._requests.put((_STOP, next(self._order), None))
        for thread in self._threads:
            thread.join(1)
        for stuck in list(self._children):
            stuck.end()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, urgency: int, header: dict[str, Any], payload: bytes, result: Any) -> Future[Any]:
        request = _Request(header, payload, result, Future())
        self._requests.put((urgency, next(self._order), request))
        return request.future

    def _serve(self) -> None:
        one: _Child | None = None
        while True:
            request = self._requests.get()[2]
            if request is None:
                break
            endings: list[str] = []
            while not request.future.done():
                try:
                    one = one or self._start()
                    self._answer(one, request)
                except _ChildLostError as lost:
                    self._discard(one)
                    one = None
                    endings.append(str(lost))
                    request.survive(endings)
                except BaseException as error:
                    request.future.set_exception(error)
        self._discard(one)

    def _answer(self, one: _Child, request: _Request) -> None:
        """Have a child answer; a sound's memory comes back here when it is released."""
        space = self._room() if request.header["task"] == "record" else None
        answer, data = one.ask(request.header, request.payload, space)
        with self._lock:
            self.seconds[request.header["task"]] += answer["seconds"]
        request.settle(answer["fields"], data, lambda: self._release(space))

    def _room(self) -> Room | None:
        with contextlib.suppress(IndexError):
            return self._rooms.pop()
        return room()

    def _release(self, space: Room | None) -> None:
        if space is not None and space.reusable:
            self._rooms.append(space)

    def _start(self) -> _Child:
        started = _Child(self._audio)
        self._children.add(started)
        return started

    def _discard(self, one: _Child | None) -> None:
        if one is not None:
            one.end()
            self._children.discard(one)


@dataclasses.dataclass
class _Request:
    header: dict[str, Any]
    payload: bytes
    result: Any
    future: Future[Any]
    faults: list[str] = dataclasses.field(default_factory=list)

    def settle(self, fields: dict[str, Any], data: Data, release: Callable[[], None]) -> None:
        """Act on an answer. ``release`` is for who has taken note of ``data``."""
        kind = fields.get("error")
        if kind is None:
            self.future.set_result(self.result(fields, data, release))
        elif kind == child.MACHINE:
            self.faults.append(fields["message"])
            if len(self.faults) == _TRIES:
                self.future.set_exception(ToolError(fields["message"]))
        elif kind == child.REQUEST:
            self.future.set_exception(RequestError(fields["message"]))
        else:
            self.future.set_exception(RuntimeError(fields["message"]))

    def survive(self, endings: list[str]) -> None:
        """Decide what follows from a lost child: another try, unless it went the same way before."""
        crashed = endings[-1] in endings[:-1] and endings[-1].startswith("SIG") and endings[-1] != "SIGKILL"
        if crashed and self.header["task"] == "record":
            # The same crash twice follows from the MIDI, as a broken text follows from the sampler.
            failure = f"the synthesizer ended by {endings[-1]}"
            self.future.set_result(Sound(facts=self.header["facts"], failure=failure))
        elif len(endings) == _TRIES:
            self.future.set_exception(ToolError(f"a child process was lost {_TRIES} times: {endings}"))


class _ChildLostError(Exception):
    """The child died or hung; the message says how it ended."""


class _Child:
    def __init__(self, audio: dict[str, Any] | None) -> None:
        self._process, ours = spawn("reelmill.songs.make.child")
        self._channel = Channel(ours)
        self._send({"audio": audio})

    def ask(self, header: dict[str, Any], payload: bytes, space: Room | None) -> Frame:
        self._send(header, payload, space)
        seconds = None if header["task"] == "examine" else _SECONDS
        try:
            return self._channel.receive(seconds, space)
        except TimeoutError:
            raise _ChildLostError("took too long") from None
        except (EOFError, ConnectionResetError):
            raise _ChildLostError(ending(self._process)) from None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _send(self, header: dict[str, Any], payload: bytes = b"", space: Room | None = None) -> None:
        try:
            self._channel.send(header, [payload], space)
        except (BrokenPipeError, ConnectionResetError):
            raise _ChildLostError(ending(self._process)) from None

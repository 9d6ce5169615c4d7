"""A worker in a process of its own, beside the command that started it (``launch`` is the other side).

It asks for work over a socket, which it finds as its standard input, and ends when the other end is gone.
Run with ``python -m``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from reelmill import config as configuration
from reelmill.audio.encode import extension
from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.make.channel import Channel
from reelmill.songs.make.machine import Machine
from reelmill.songs.make.pool import Pool
from reelmill.songs.make.scheduler import Work
from reelmill.songs.make.spawn import connection
from reelmill.songs.make.worker import Made, Worker
from reelmill.songs.store.manifest import Kind
from reelmill.songs.store.model_copy import kept_model
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.song import Song

_GRACE = 5.0  # seconds to give up what is in hand once the other end is gone
_in_hand = threading.Event()  # whether there is anything to give up


def task(
    directory: Path,
    config: configuration.Config,
    share: str,
    workers: int,
    halves: Sequence[Kind],
    processes: int,
) -> dict[str, Any]:
    """What such a process is told first: which ``halves`` to make, as one of so many ``workers`` of which
    share, and with how many ``processes`` of its own that judge and record.
    """
    return {
        "directory": str(directory),
        "config": configuration.to_dict(config),
        "share": share,
        "workers": workers,
        "halves": list(halves),
        "processes": processes,
    }


class _Elsewhere:
    """The ``Source`` of the process at the other end."""

    def __init__(self, channel: Channel) -> None:
        self.waits = True
        self._channel = channel
        self._lock = threading.Lock()

    def next(self) -> Work | None:
        answer = self._ask("next")
        self.waits = answer["waits"]
        return Work(**answer["work"]) if answer["work"] else None

    def taken_up(self, shard: int, songs: int, song: Song) -> None:
        self.tell("taken up", shard=shard, songs=songs, song=song.id, failure=song.failure, tally=song.tally)

    def release(self, shard: int) -> None:
        self.tell("release", shard=shard)

    def again(self, work: Work) -> None:
        self.tell("again", work=asdict(work))

    def doubt(self) -> list[str]:
        problems: list[str] = self._ask("doubt")["problems"]
        return problems

    def tell(self, what: str, **facts: Any) -> None:
        """Say something that needs no answer."""
        with self._lock:
            self._channel.send({"tell": what, **facts})

    def _ask(self, what: str) -> dict[str, Any]:
        with self._lock:
            self._channel.send({"tell": what})
            return self._channel.receive()[0]


def main() -> None:
    """Work until there is nothing left, or until the other end is gone."""
    ours = connection()
    signal.signal(signal.SIGALRM, _break_off)
    threading.Thread(target=_watch, args=(ours,), daemon=True).start()
    channel = Channel(ours)
    source = _Elsewhere(channel)
    try:
        try:
            made = _work(channel.receive()[0], source)
            channel.send({"made": asdict(made)})
        except (RequestError, IncompleteError) as error:
            kind = RequestError if isinstance(error, RequestError) else IncompleteError
            source.tell(kind.__name__, message=str(error))
    except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)


def _work(told: dict[str, Any], source: _Elsewhere) -> Made:
    directory = Path(told["directory"])
    plan = read_plan(directory)
    config = configuration.from_dict(told["config"], "the command that started this process")
    model = kept_model(directory, plan.model) if "text" in told["halves"] else None
    with Pool(config.audio if "audio" in told["halves"] else None, told["processes"]) as pool:
        machine = Machine(directory, plan, config, model, pool)
        share, workers = told["share"], told["workers"]
        worker = Worker(directory, plan, source, machine, extension(config.audio), share, workers)
        _in_hand.set()
        try:
            return worker.run()
        finally:
            _in_hand.clear()


def _watch(ours: socket.socket) -> None:
    """Break the work off when the other end is gone, and end this process if that takes long."""
    poll = select.poll()
    poll.register(ours, getattr(select, "POLLRDHUP", 0))  # and hang-ups, which need not be asked for
    poll.poll()
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGALRM)
    time.sleep(_GRACE)
    os._exit(1)


def _break_off(_number: int, _frame: object) -> NoReturn:
    if _in_hand.is_set():
        _in_hand.clear()  # once is enough
        raise KeyboardInterrupt
    os._exit(1)  # nothing has been begun, or all is given up


if __name__ == "__main__":
    main()

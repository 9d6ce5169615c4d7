"""A worker in a process of its own, beside the command that started it (``launch`` is the other side).

Its task is the first line of standard input. When that comes to its end (the other side is gone, or wants no
more) it gives back what it has in hand and ends. Run with ``python -m``.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

from reelmill import config as configuration
from reelmill import resources
from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.make.scheduler import Scheduler
from reelmill.songs.make.worker import Worker
from reelmill.songs.store.leases import Leases
from reelmill.songs.store.plan import read_plan

_NOTICES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class _Teller:
    """Says what the worker has done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def songs(self, halves: int) -> None:
        self.tell("songs", halves=halves)

    def text(self, songs: int, failed: int, attempts: dict[str, int]) -> None:
        self.tell("text", songs=songs, failed=failed, attempts=attempts)

    def shard(self, number: int) -> None:
        self.tell("shard", number=number)

    def fault(self, reason: str) -> None:
        self.tell("fault", reason=reason)

    def tell(self, what: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"tell": what, **facts}) + "\n")
        self._stream.flush()


def main() -> int:
    """Work until there is nothing left, or until the other side is gone; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="reelmill: %(message)s", stream=sys.stderr)
    for notice in _NOTICES:
        signal.signal(notice, signal.SIG_IGN)  # a notice to stop is the other process's to act on
    teller = _Teller(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # what a library prints is not for standard output
    try:
        _work(json.loads(sys.stdin.readline()), teller)
    except (RequestError, IncompleteError) as error:
        kind = RequestError if isinstance(error, RequestError) else IncompleteError
        teller.tell(kind.__name__, reason=str(error))
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    return 0


def _work(task: dict[str, Any], teller: _Teller) -> None:
    directory, halves = Path(task["directory"]), tuple(task["halves"])
    plan = read_plan(directory)
    config = configuration.from_dict(task["config"], "the command that started this process")
    model = None
    if "text" in halves:
        from reelmill.songs.store.model_copy import kept_model

        model = kept_model(directory, plan.model)
    share = f"{task['share'][0]}/{task['share'][1]}"
    scheduler = Scheduler(directory, plan, task["share"], task["part"], halves)
    with ExitStack() as stack:
        executor: Executor | None = None
        if halves == ("text",) and os.environ.get("CUDA_VISIBLE_DEVICES"):
            executor = ProcessPoolExecutor(resources.processors(), get_context("spawn"))
            stack.enter_context(executor)
        leases = stack.enter_context(Leases(directory, share))
        Worker(
            directory,
            plan,
            config,
            model,
            scheduler,
            leases,
            teller,
            share=share,
            workers=task["workers"],
            executor=executor,
            stop=_stop_if_told,
        ).run()


def _stop_if_told() -> None:
    if select.select([0], [], [], 0)[0]:
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

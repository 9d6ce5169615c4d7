"""The memory of running commands."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watched(processes: list[int]) -> Iterator[list[int]]:
    """The peak of the resident memory of processes and their children, in bytes, looked at every second."""
    done, peak = threading.Event(), [0]

    def look() -> None:
        while not done.wait(1.0):
            peak[0] = max(peak[0], sum(map(_resident, processes)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _resident(process: int) -> int:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, ValueError):
        return 0  # it has just ended
    # Children of other threads are listed with those.
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        children += task.read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in set(children))

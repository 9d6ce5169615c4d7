"""``reelmill status``: a run's or a songs directory's, once or refreshed until it is done."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from reelmill.cluster.status.run_status import RunStatus, run_status
from reelmill.cluster.status.songs_status import QueuedSongs, SongsStatus, queued_songs, songs_status
from reelmill.layout import is_songs

_CLEAR = "\x1b[H\x1b[2J"


Status = RunStatus | SongsStatus | QueuedSongs


def status(directory: Path) -> Status:
    """How ``directory`` stands; RequestError if it is neither a run nor a songs directory."""
    if is_songs(directory):
        return songs_status(directory)
    return queued_songs(directory) or run_status(directory)


def watch(directory: Path, seconds: float) -> Status:
    """Show the status again every so many seconds, until Ctrl-C or until nothing more will come; the last."""
    while True:
        seen = status(directory)
        screen = _CLEAR if sys.stdout.isatty() else ""
        print(f"{screen}{seen.describe()}", flush=True)
        if is_done(seen) or has_failed(seen):
            return seen
        time.sleep(seconds)


def is_done(seen: Status) -> bool:
    """Whether the work is complete, and no job that collects it is in the queue."""
    if isinstance(seen, QueuedSongs) or any(job.queued for job in seen.jobs.jobs):
        return False
    if isinstance(seen, RunStatus):
        return seen.finished
    return seen.text_shards == seen.shards and not seen.missing and not seen.running


def has_failed(seen: Status) -> bool:
    """Whether the work is not complete and nobody will go on with it by itself: its jobs have ended."""
    if is_done(seen) or seen.jobs.more_to_come or not seen.jobs.jobs:
        return False
    if isinstance(seen, RunStatus):
        return seen.trainer == ""
    return isinstance(seen, QueuedSongs) or not seen.running

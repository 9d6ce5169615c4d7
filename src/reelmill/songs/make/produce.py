"""Work on one share of a songs directory until it is done, for ``generate`` and for ``render``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelmill import durable, resources
from reelmill.audio.encode import extension
from reelmill.config import Config
from reelmill.model import TrainedModel
from reelmill.room import size_text
from reelmill.sampling.engine import sampling_device
from reelmill.songs.check.examine import Verified
from reelmill.songs.make.launch import CommonWork, Workers
from reelmill.songs.make.machine import Machine
from reelmill.songs.make.pool import Pool
from reelmill.songs.make.progress import Progress
from reelmill.songs.make.publishing import published_live
from reelmill.songs.make.scheduler import Share
from reelmill.songs.make.worker import Made, Worker
from reelmill.songs.make.worker_process import task
from reelmill.songs.store.leases import Leases, read_lease
from reelmill.songs.store.manifest import KINDS, Kind, manifest_path
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.totals import Outcome, count_half

_log = logging.getLogger(__name__)

_WORTH = 256  # songs for which it is worth the seconds to start one more worker
_NEED = 7 << 28  # bytes for a worker and its children, with sound; up to 1.5 GB were measured


def produce(
    directory: Path,
    plan: Plan,
    config: Config,
    model: TrainedModel | None,
    *,
    shard: tuple[int, int],
    halves: tuple[Kind, ...],
    progress: bool = True,
    take_over: bool = True,
    memory: Verified | None = None,
) -> Outcome:
    """Make what is missing or damaged of one share. ``model`` may be None if ``halves`` are audio only.

    Before the first song, this machine's fingerprint is compared with the plan's: RequestError if it would
    make other bytes. ``memory`` is for the share (see there).
    """
    began = time.monotonic()
    share = Share(directory, plan, shard, halves, take_over, memory)
    tidy(directory)
    for problem in share.damaged:
        _log.warning("%s; it is made again", problem)
    made = Made()
    needed = [kind for kind in halves if share.needs(kind)]
    if needed:
        name = f"{shard[0]}/{shard[1]}"
        workers = worker_count(config, share, samples="text" in halves)
        processes = -(-resources.processors() // workers)
        with Pool(config.audio if "audio" in halves else None, processes) as pool:
            machine = Machine(directory, plan, config, model if "text" in halves else None, pool)
            if "text" in needed:
                machine.engine()
            if "audio" in needed:
                machine.check_sound()
            told = task(directory, config, name, workers, halves, processes)
            made = _work(directory, plan, config, share, machine, told, progress)
    return _outcome(directory, plan, share, shard, made, time.monotonic() - began)


def worker_count(config: Config, share: Share, samples: bool) -> int:
    """How many workers are to make a share, and what it takes over from others: ``songs.workers``, or one a
    processor where songs are many and there is memory for so many.

    A GPU is for one worker.
    """
    wanted, shards = config.songs.workers, share.in_reach
    if not wanted:
        on_gpu = samples and sampling_device(config.sampling).type != "cpu"
        songs = shards * config.songs.songs_per_shard
        wanted = 1 if on_gpu else min(resources.processors(), 1 + songs // _WORTH)
        wanted = _fitting(min(wanted, shards))
    return max(1, min(wanted, shards))


def _fitting(workers: int) -> int:
    """So many workers, or as many as there is memory for."""
    free = resources.memory()
    fitting = max(1, min(workers, free // _NEED))
    if fitting < workers:
        _log.warning(
            "%d of %d processors get a worker: %s of memory are free, and one may take %s "
            "(songs.workers sets another number)",
            fitting,
            workers,
            size_text(free),
            size_text(_NEED),
        )
    return fitting


def tidy(directory: Path) -> None:
    """Remove what killed workers left of shards that are finished by now."""
    for place in (*KINDS, "leases"):
        for path in (directory / place).glob(".shard-*"):
            number = path.name[7:13]
            if not (durable.is_temporary(path) and number.isdigit()):
                continue
            lease = read_lease(directory, int(number))
            kinds: Sequence[Kind] = KINDS if place == "leases" else [place]
            made = any(manifest_path(directory, kind, int(number)).exists() for kind in kinds)
            if made and not (lease and lease.live):
                path.unlink(missing_ok=True)


def _work(
    directory: Path,
    plan: Plan,
    config: Config,
    share: Share,
    machine: Machine,
    told: dict[str, Any],
    visible: bool,
) -> Made:
    name, workers = told["share"], told["workers"]
    with (
        published_live(directory, plan, config.tracking),
        Leases(directory, name) as leases,
        Progress(plan, share.songs, visible) as progress,
    ):
        work = CommonWork(share, leases, progress.count)
        with Workers(workers - 1, told, work) as others:
            made = Worker(directory, plan, work, machine, extension(config.audio), name, workers).run()
        made.add(others.made)
        return made


def _outcome(
    directory: Path, plan: Plan, share: Share, shard: tuple[int, int], made: Made, seconds: float
) -> Outcome:
    text, audio = count_half(directory, plan, "text"), count_half(directory, plan, "audio")
    finished = min(text.shards, audio.shards) if plan.audio else text.shards
    return Outcome(
        directory=directory,
        planned=plan.songs,
        share=shard,
        complete=not share.unfinished(),
        made=sorted(set(made.shards)),
        remaining=plan.shards - finished,
        songs=text.songs,
        failed=text.failed,
        silent={song: reason for song, reason in audio.failed.items() if song not in text.failed},
        attempts=text.attempts,
        damaged=share.damaged,
        faults=made.faults,
        seconds=round(seconds, 3),
    )

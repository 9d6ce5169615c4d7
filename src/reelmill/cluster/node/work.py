"""The work of each stage, by its name, as one task of its job does it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from reelmill.cluster.node import task
from reelmill.cluster.node.requeue import STOPPED
from reelmill.errors import IncompleteError


def train(job: task.Job) -> bool:
    """Train as one rank of a run."""
    facts = job.facts()
    deadline = task.deadline(facts, os.environ)
    from reelmill import config
    from reelmill.training import loop

    settings = config.from_dict(facts["config"], source=job.job_file)
    if settings.training.device == "auto":
        require_gpus(os.environ)
    result = loop.train(settings, Path(facts["directory"]), deadline=deadline)
    return bool(result.finished)


def plan(job: task.Job) -> bool:
    """Plan a songs directory from a run that is trained by now."""
    facts = job.facts()
    from reelmill.cluster.generate import plan_songs
    from reelmill.cluster.node.planned import note_planned

    plan_songs(
        Path(facts["run"]),
        Path(facts["directory"]),
        facts["songs"],
        facts["seed"],
        facts["audio"],
        facts["overrides"],
    )
    note_planned(Path(facts["directory"]), Path(job.job_file))
    return True


def generate(job: task.Job) -> bool:
    """Make one share of a songs directory: an element of the array."""
    facts = job.facts()
    _stop_between_two_instructions()
    from reelmill.songs.make import generate as making
    from reelmill.songs.results.publishing import published_live

    directory = Path(facts["directory"])
    with published_live(directory, facts["overrides"]):
        outcome = making.generate(
            directory,
            overrides=facts["overrides"],
            shard=(job.share, facts["tasks"]),
            audio=facts["audio"],
            progress=job.share == 0,
        )
    print(outcome.describe(), flush=True)
    if not outcome.complete:
        raise IncompleteError(f"share {job.share} of {facts['tasks']} is not complete")
    return True


def collect(job: task.Job) -> bool:
    """Verify the songs when their array has ended, have made again what is missing, write the results."""
    facts = job.facts()
    _stop_between_two_instructions()
    from reelmill.cluster.node.collecting import collect_or_submit_again

    print(collect_or_submit_again(facts), flush=True)
    return True


def require_gpus(environ: Mapping[str, str]) -> None:
    """IncompleteError if Slurm gave this job GPUs and torch sees none: it would train on the CPU for days."""
    given = environ.get("SLURM_GPUS_ON_NODE", "0")
    if given in ("", "0"):
        return
    import torch

    if not torch.cuda.device_count():
        raise IncompleteError(
            f"{os.uname().nodename}: Slurm gave this job {given} GPUs, but torch sees none: load the CUDA "
            "module in `setup` of the cluster file, or install a torch built for the driver (nvidia-smi)"
        )


def _stop_between_two_instructions() -> None:
    """Stop wherever a signal finds us: what counts is committed as a whole, the shard in hand is made
    again.
    """

    def stop(_number: int, _frame: object) -> NoReturn:
        for number in task.SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # once is enough: leases are being given back
        sys.exit(STOPPED)

    for number in task.SIGNALS:
        signal.signal(number, stop)

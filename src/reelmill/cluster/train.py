"""Training as a job: what is made before the queue, and what is handed over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reelmill import config, durable
from reelmill.cluster.local import run_request
from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.preflight.requirements import refuse_unseen
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import Request, Submission, batch_script, refuse, submit
from reelmill.config import Config
from reelmill.layout import STATE, checkpoint_path, is_finished


def train_on_cluster(settings: Config, run: Path, cluster: ClusterSettings) -> Submission | None:
    """Queue the training of ``run``, or do it here if the cluster is ``local``; None if nothing was queued.

    The corpus is built now: nodes may have no network.
    """
    refuse_another_run(settings, run)
    if finished(run, settings.training.steps):
        print(f"{run} is finished; nothing to do", file=sys.stderr)
        return None
    request = training_request(settings, run)
    if cluster.scheduler == "local":
        build_corpus(settings)
        run_request(request, cluster)
        return None
    refuse(request, cluster)  # before the minutes that a corpus may take
    refuse_unseen(settings, cluster, corpus=True, audio=False)
    build_corpus(settings)
    return submit(request, cluster)


def refuse_another_run(settings: Config, run: Path) -> None:
    """RequestError if what lies in ``run`` could not go on with these settings."""
    from reelmill.training.run_directory import refuse_other_settings  # torch comes with it

    refuse_other_settings(settings, run)


def finished(run: Path, steps: int) -> bool:
    """Whether the newest checkpoint of ``run`` is its last one."""
    step = newest_checkpoint(run)
    if not step:
        return False
    return is_finished(durable.read_json(checkpoint_path(run, step) / STATE), step, steps)


def training_script(settings: Config, run: Path, cluster: ClusterSettings) -> str:
    """What would be submitted, as text; nothing is written, built or asked."""
    if cluster.scheduler == "local":
        return f"# no Slurm: {cluster.processes} × `python -m reelmill.cluster.node.task` on this machine\n"
    return batch_script(training_request(settings, run), cluster)


def training_request(settings: Config, run: Path) -> Request:
    """The request for one job that trains ``run``."""
    return Request("train", run, {"config": config.to_dict(settings)})


def build_corpus(settings: Config) -> None:
    """Have the corpus built in the cache, which the nodes see."""
    from reelmill.corpus.build import load_or_build

    load_or_build(settings.corpus)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """``section.key=value`` overrides of the configuration, and those of the cluster file."""
    return (
        [text for text in overrides if not text.startswith("cluster.")],
        [text for text in overrides if text.startswith("cluster.")],
    )

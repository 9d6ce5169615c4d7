"""Songs as jobs: one array of shares, and behind it a job that verifies, mends and collects.

The chain waits in Slurm itself; no client has to stay alive:

    jobs.generate    (planned now) → array of shares → collect
    jobs.overnight   train → plan → array of shares → collect

An array's elements may fail for good; ``collect`` starts all the same, submits another array for what is
missing (a bounded number of times), and only then gives up, saying what is missing.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelmill.cluster.cancelling import all_or_none
from reelmill.cluster.local import run_request
from reelmill.cluster.node.planned import planned, refuse_earlier_plan
from reelmill.cluster.preflight.limits import refuse_array, refuse_percent
from reelmill.cluster.preflight.requirements import refuse_unmakeable, refuse_unseen
from reelmill.cluster.preflight.songs_request import Room, Songs, disk_room, made_as, run_settings, say_idle
from reelmill.cluster.settings import ClusterSettings, Stage
from reelmill.cluster.submission import JOB, Request, Submission, batch_scripts, refuse, submit
from reelmill.cluster.train import build_corpus, finished, refuse_another_run, training_request
from reelmill.config import Config
from reelmill.songs.store.prompts import check_openings

SONG_STAGES: tuple[Stage, Stage] = ("generate", "collect")
Clusters = Mapping[Stage, ClusterSettings]


def generate_on_cluster(songs: Songs, clusters: Clusters, force: bool = False) -> list[Submission]:
    """Plan the songs, submit their array and what collects them; all of it here if the cluster is
    ``local``. Songs that do not fit the disk are refused, unless by ``force``.
    """
    config = run_settings(songs)
    if clusters["generate"].scheduler == "slurm":
        refuse_percent(songs.out)  # before minutes of measuring
    songs = made_as(config, songs)
    say_idle(songs, config)
    _see_to_room(disk_room(songs, config, clusters["generate"], trained=True), force)
    if clusters["generate"].scheduler == "local":
        plan_songs(songs.run, songs.out, songs.songs, songs.seed, songs.audio, songs.overrides)
        _generate_here(songs, clusters)
        return []
    clusters = one_task_each(clusters)
    _refuse_what_cannot_be(config, songs, clusters, beside=1)
    plan_songs(songs.run, songs.out, songs.songs, songs.seed, songs.audio, songs.overrides)
    sent: list[Submission] = []
    with all_or_none(lambda: jobs_in(sent)):
        submit_songs(songs, clusters, sent, asked=planned(songs.out))
    return sent


def overnight(settings: Config, songs: Songs, clusters: Clusters, force: bool = False) -> list[Submission]:
    """Submit training, planning, generation and collection, each waiting for the one before; all or none of
    them. Songs that do not fit the disk are refused, unless by ``force``.
    """
    refuse_another_run(settings, songs.run)
    check_openings(settings)
    refuse_earlier_plan(songs.out, settings, songs.songs, songs.seed)
    songs = made_as(settings, songs)
    say_idle(songs, settings)
    if clusters["train"].scheduler == "local":
        if not finished(songs.run, settings.training.steps):
            build_corpus(settings)
            run_request(training_request(settings, songs.run), clusters["train"])
        return generate_on_cluster(songs, clusters, force)
    clusters = one_task_each(clusters)
    refuse(training_request(settings, songs.run), clusters["train"])
    refuse_unseen(settings, clusters["train"], corpus=True, audio=False)
    _refuse_what_cannot_be(settings, songs, clusters, beside=3)
    _see_to_room(disk_room(songs, settings, clusters["generate"], trained=False), force)
    build_corpus(settings)
    sent: list[Submission] = []
    with all_or_none(lambda: jobs_in(sent)):
        if not finished(songs.run, settings.training.steps):
            sent.append(submit(training_request(settings, songs.run), clusters["train"]))
        sent.append(submit(_plan_request(songs), clusters["collect"], after=jobs_in(sent)))
        submit_songs(songs, clusters, sent, asked=sent[-1].folder / JOB)
    return sent


def scripts(songs: Songs, clusters: Clusters, settings: Config | None = None) -> str:
    """The sbatch files that would be submitted, one after the other, below the disk that the songs will take;
    ``settings`` adds those of ``overnight``.
    """
    config = settings or run_settings(songs)
    disk = f"# {disk_room(songs, config, clusters['generate'], trained=settings is None).line}\n"
    if clusters["generate"].scheduler == "local":
        here = f"# no Slurm: {songs.tasks} × `python -m reelmill.cluster.node.task` here, then collect\n"
        return disk + here
    clusters = one_task_each(clusters)
    parts: list[tuple[Request, Stage]] = [
        (_array_request(songs, 0), "generate"),
        (_collect_request(songs, clusters, 0, {}), "collect"),
    ]
    if settings is not None:
        parts = [(training_request(settings, songs.run), "train"), (_plan_request(songs), "collect"), *parts]
    return disk + "\n".join(
        f"##### {request.stage}\n{batch_scripts(request, clusters[stage])}" for request, stage in parts
    )


def one_task_each(clusters: Clusters) -> Clusters:
    """``clusters`` with one task on one node for each element of the array and each of the single jobs.

    ``nodes`` and ``tasks_per_node`` at the top of a cluster file are meant for training: several tasks in a
    job that verifies, writes or submits would each do all of it. What is changed is said.
    """
    changed: dict[Stage, ClusterSettings] = dict(clusters)
    for stage in SONG_STAGES:
        given = clusters[stage]
        changed[stage] = dataclasses.replace(
            given, nodes=1, tasks_per_node=1, gpus_per_node=min(1, given.gpus_per_node)
        )
        for key in ("nodes", "tasks_per_node", "gpus_per_node"):
            before, after = getattr(given, key), getattr(changed[stage], key)
            if before != after:
                print(
                    f"{stage}: one task a job, so cluster.{key} = {before} is taken as {after}",
                    file=sys.stderr,
                )
    return changed


def plan_songs(run: Path, out: Path, songs: int, seed: int, audio: bool, overrides: Sequence[str]) -> None:
    """Write the plan and the model's copy, unless they are there; RequestError if they are there and
    differ.
    """
    from reelmill.songs.make.generate import plan_from_run
    from reelmill.songs.store.model_copy import keep_model

    *_, model = plan_from_run(run, out, songs, overrides, seed, None, audio)
    keep_model(out, model)


def _see_to_room(room: Room, force: bool) -> None:
    if not force:
        room.refuse_too_large()
    print(room.line, file=sys.stderr)


def _refuse_what_cannot_be(config: Config, songs: Songs, clusters: Clusters, beside: int) -> None:
    """Before the first job of a chain is queued, which has ``beside`` jobs beside its array."""
    refuse_array(songs.tasks, beside)
    requests = _array_request(songs, 0), _collect_request(songs, clusters, 0, {})
    for stage, request in zip(SONG_STAGES, requests, strict=True):
        refuse(request, clusters[stage])
    refuse_unmakeable(config, songs.audio, clusters["generate"])
    refuse_unseen(config, clusters["generate"], corpus=False, audio=songs.audio)


def submit_songs(
    songs: Songs,
    clusters: Clusters,
    sent: list[Submission],
    asked: Mapping[str, Any] | Path,
    round_number: int = 0,
) -> None:
    """Submit the array, after what is ``sent``, and what collects; both are added to ``sent``."""
    sent.append(submit(_array_request(songs, round_number), clusters["generate"], jobs_in(sent[-1:])))
    collecting = _collect_request(songs, clusters, round_number, asked, sent[-1].jobs)
    sent.append(submit(collecting, clusters["collect"], sent[-1].jobs, condition="afterany"))


def _generate_here(songs: Songs, clusters: Clusters) -> None:
    local = dataclasses.replace(clusters["generate"], nodes=1, tasks_per_node=songs.tasks)
    run_request(_array_request(songs, 0), local)
    one = dataclasses.replace(clusters["collect"], nodes=1, tasks_per_node=1)
    collecting = _collect_request(
        songs, {**clusters, "generate": local, "collect": one}, one.collect_rounds, planned(songs.out)
    )
    run_request(collecting, one)
    print(f"{songs.out}: collected; see {songs.out / 'report.html'}", file=sys.stderr)


def _array_request(songs: Songs, round_number: int) -> Request:
    return Request("generate", songs.out, {**songs.facts(), "round": round_number}, songs.tasks)


def _plan_request(songs: Songs) -> Request:
    return Request("plan", songs.out, songs.facts())


def _collect_request(
    songs: Songs,
    clusters: Clusters,
    round_number: int,
    asked: Mapping[str, Any] | Path,
    array: Sequence[str] = (),
) -> Request:
    """``asked`` is what was planned, or the file of the job that is going to plan it; ``array`` the jobs that
    make the songs.
    """
    facts = {
        **songs.facts(),
        "planned": None if isinstance(asked, Path) else dict(asked),
        "plan_job": str(asked) if isinstance(asked, Path) else "",
        "round": round_number,
        "array_tasks": songs.tasks,
        "array": list(array),
        "clusters": {stage: dataclasses.asdict(clusters[stage]) for stage in SONG_STAGES},
    }
    return Request("collect", songs.out, facts)


def jobs_in(sent: Sequence[Submission]) -> list[str]:
    return [job for submission in sent for job in submission.jobs]

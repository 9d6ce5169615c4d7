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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelmill.cluster import queue
from reelmill.cluster.jobs import CollectJob, GenerateJob, PlanJob
from reelmill.cluster.limits import refuse_array, refuse_impossible
from reelmill.cluster.local import run_here
from reelmill.cluster.settings import ClusterSettings, Stage
from reelmill.cluster.submission import (
    Request,
    Submission,
    batch_script,
    new_folder,
    refuse_second,
    submit,
    write_job,
)
from reelmill.cluster.train import build_corpus, finished, refuse_another_run, training_request
from reelmill.config import Config, parse
from reelmill.errors import IncompleteError, RequestError

SONG_STAGES: tuple[Stage, Stage] = ("generate", "collect")
Clusters = Mapping[Stage, ClusterSettings]


@dataclass(frozen=True)
class Songs:
    """What is asked for: so many songs of ``run`` in ``out``, by ``tasks`` tasks."""

    run: Path
    out: Path
    songs: int
    tasks: int
    seed: int = 0
    audio: bool = True
    overrides: Sequence[str] = ()  # of sampling, songs and audio

    def facts(self) -> dict[str, Any]:
        """For ``job.json``."""
        return {
            "run": str(self.run.absolute()),
            "songs": self.songs,
            "seed": self.seed,
            "audio": self.audio,
            "overrides": list(self.overrides),
        }


def generate_on_cluster(songs: Songs, clusters: Clusters) -> list[Submission]:
    """Plan the songs, submit their array and what collects them; all of it here if the cluster is
    ``local``.
    """
    if clusters["generate"].scheduler == "local":
        plan_songs(songs.run, songs.out, songs.songs, songs.seed, songs.audio, songs.overrides)
        _generate_here(songs, clusters)
        return []
    _refuse_what_cannot_be(songs, clusters)
    plan_songs(songs.run, songs.out, songs.songs, songs.seed, songs.audio, songs.overrides)
    return _submit_songs(songs, clusters, after=[])


def overnight(settings: Config, songs: Songs, clusters: Clusters) -> list[Submission]:
    """Submit training, planning, generation and collection, each waiting for the one before."""
    refuse_another_run(settings, songs.run)
    if clusters["train"].scheduler == "local":
        if not finished(songs.run, settings.training.steps):
            build_corpus(settings)
            request = training_request(settings, songs.run)
            run_here(write_job(request, clusters["train"], new_folder(request)), clusters["train"])
        return generate_on_cluster(songs, clusters)
    refuse_impossible(clusters["train"], songs.run)
    refuse_second(songs.run, "train")
    _refuse_what_cannot_be(songs, clusters)
    build_corpus(settings)
    sent: list[Submission] = []
    if not finished(songs.run, settings.training.steps):
        sent.append(submit(training_request(settings, songs.run), clusters["train"]))
    sent.append(submit(_plan_request(songs), clusters["collect"], after=_jobs(sent)))
    return [*sent, *_submit_songs(songs, clusters, after=sent[-1].jobs)]


def scripts(songs: Songs, clusters: Clusters, settings: Config | None = None) -> str:
    """The sbatch files that would be submitted, one after the other; ``settings`` adds those of
    ``overnight``.
    """
    if clusters["generate"].scheduler == "local":
        return (
            f"# no Slurm: {songs.tasks} × `python -m reelmill.cluster.task` on this machine, then collect\n"
        )
    parts: list[tuple[Request, Stage]] = [
        (_array_request(songs, 0), "generate"),
        (_collect_request(songs, clusters, 0), "collect"),
    ]
    if settings is not None:
        parts = [(training_request(settings, songs.run), "train"), (_plan_request(songs), "collect"), *parts]
    return "\n".join(
        f"##### {request.stage}\n{batch_script(request, clusters[stage])}" for request, stage in parts
    )


def plan_songs(run: Path, out: Path, songs: int, seed: int, audio: bool, overrides: Sequence[str]) -> None:
    """Write the plan and the model's copy, unless they are there; RequestError if they are there and
    differ.
    """
    from reelmill.songs.generate import plan_from_run
    from reelmill.songs.keepsake import keep_model

    *_, model = plan_from_run(run, out, songs, overrides, seed, None, audio)
    keep_model(out, model)


def collect_or_submit_again(job: Mapping[str, Any]) -> str:
    """Finish a songs directory if all its shards are there, else see to what is missing; what was done, in
    words.

    Raises IncompleteError naming what is missing once all rounds are used up.
    """
    from reelmill.report.page import write_report
    from reelmill.report.publication import publish_songs
    from reelmill.songs.collect import collect
    from reelmill.songs.generate import generate
    from reelmill.songs.plan import plan_path
    from reelmill.songs.publishing import tracking_settings
    from reelmill.songs.verify import verify

    out = Path(job["directory"])
    if not plan_path(out).is_file():
        raise RequestError(f"{out}: not planned, since training or planning did not end well; see their logs")
    found = verify(out)
    if found.intact:
        collect(out)
        report = write_report(out)
        archive = publish_songs(out, tracking_settings(out, job["overrides"]))
        return "\n".join([found.describe(), str(report), *([str(archive)] if archive else [])])
    clusters = {stage: parse(ClusterSettings, job["clusters"][stage], stage) for stage in SONG_STAGES}
    if job["round"] >= clusters["collect"].collect_rounds:
        raise IncompleteError(f"after {job['round']} further rounds:\n{found.describe()}")
    songs = _songs(job)
    if queue.slurm_here():
        sent = _submit_songs(songs, clusters, after=[], round_number=job["round"] + 1)
        return f"{found.describe()}\nsubmitted again what is missing: jobs {', '.join(_jobs(sent))}"
    # A container may have no sbatch: then this job makes what is missing.
    generate(out, overrides=songs.overrides, audio=songs.audio, progress=False)
    return collect_or_submit_again({**job, "round": job["round"] + 1})


def _refuse_what_cannot_be(songs: Songs, clusters: Clusters) -> None:
    """Before the first job of a chain is queued."""
    refuse_array(songs.tasks)
    for stage in SONG_STAGES:
        refuse_impossible(clusters[stage], songs.out)
        refuse_second(songs.out, stage)


def _submit_songs(
    songs: Songs, clusters: Clusters, after: Sequence[str], round_number: int = 0
) -> list[Submission]:
    array = submit(_array_request(songs, round_number), clusters["generate"], after)
    collecting = _collect_request(songs, clusters, round_number)
    return [array, submit(collecting, clusters["collect"], array.jobs, condition="afterany")]


def _generate_here(songs: Songs, clusters: Clusters) -> None:
    local = dataclasses.replace(clusters["generate"], nodes=1, tasks_per_node=songs.tasks)
    request = _array_request(songs, 0)
    run_here(write_job(request, local, new_folder(request)), local)
    one = dataclasses.replace(clusters["collect"], nodes=1, tasks_per_node=1)
    collecting = _collect_request(songs, {**clusters, "generate": local, "collect": one}, one.collect_rounds)
    run_here(write_job(collecting, one, new_folder(collecting)), one)
    print(f"{songs.out}: collected; see {songs.out / 'report.html'}", file=sys.stderr)


def _array_request(songs: Songs, round_number: int) -> Request:
    return Request("generate", songs.out, {**songs.facts(), "round": round_number}, GenerateJob, songs.tasks)


def _plan_request(songs: Songs) -> Request:
    return Request("plan", songs.out, songs.facts(), lambda job_file, _share: PlanJob(job_file))


def _collect_request(songs: Songs, clusters: Clusters, round_number: int) -> Request:
    facts = {
        **songs.facts(),
        "round": round_number,
        "array_tasks": songs.tasks,
        "clusters": {stage: dataclasses.asdict(clusters[stage]) for stage in SONG_STAGES},
    }
    return Request("collect", songs.out, facts, lambda job_file, _share: CollectJob(job_file))


def _songs(job: Mapping[str, Any]) -> Songs:
    return Songs(
        run=Path(job["run"]),
        out=Path(job["directory"]),
        songs=job["songs"],
        tasks=job["array_tasks"],
        seed=job["seed"],
        audio=job["audio"],
        overrides=job["overrides"],
    )


def _jobs(sent: Sequence[Submission]) -> list[str]:
    return [job for submission in sent for job in submission.jobs]

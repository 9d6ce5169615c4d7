"""What the last job of a chain does: verify the songs, have made again what is missing, write the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelmill.cluster import queue
from reelmill.cluster.cancelling import GO_ON, all_or_none, was_cancelled
from reelmill.cluster.generate import SONG_STAGES, jobs_in, submit_songs
from reelmill.cluster.node.planned import planned_by, refuse_other_plan
from reelmill.cluster.preflight.songs_request import songs_of
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.submission import Submission, submissions
from reelmill.config import parse
from reelmill.errors import CancelledError, IncompleteError


def collect_or_submit_again(job: Mapping[str, Any]) -> str:
    """Finish a songs directory if all its shards are there, else see to what is missing; what was done, in
    words.

    Sound that was not asked for, and is being added by somebody else, is left to them. Raises RequestError if
    what is planned there is not what this chain asked for, IncompleteError naming what is missing once all
    rounds are used up, and, once all is finished, where files do not belong there or no song was made.
    """
    from reelmill.report.page import write_report
    from reelmill.report.publication import publish_songs
    from reelmill.songs.check.examine import forget
    from reelmill.songs.check.verify import verify
    from reelmill.songs.make.generate import generate
    from reelmill.songs.results.collect import collect
    from reelmill.songs.results.publishing import tracking_settings

    out = Path(job["directory"])
    asked = job["planned"] or planned_by(Path(job["plan_job"]), Path(job["run"]), out)
    refuse_other_plan(out, asked)
    found = verify(out, resume=True, audio=job["audio"], discard_damaged=True)
    if not found.made:
        _refuse_cancelled(out, job["array"], found.describe())
    if found.made:
        collect(out, audio=job["audio"])
        report = write_report(out)
        archive = publish_songs(out, tracking_settings(out, job["overrides"]))
        forget(out)
        done = "\n".join([found.describe(), str(report), *([str(archive)] if archive else [])])
        if not found.intact or not found.songs:
            raise IncompleteError(done)
        return done
    clusters = {
        stage: _seen(parse(ClusterSettings, job["clusters"][stage], stage), out) for stage in SONG_STAGES
    }
    if job["round"] >= clusters["collect"].collect_rounds:
        forget(out)
        raise IncompleteError(f"after {job['round']} further rounds:\n{found.describe()}")
    songs = songs_of(job)
    if queue.slurm_here():
        sent: list[Submission] = []
        with all_or_none(lambda: jobs_in(sent)):
            submit_songs(songs, clusters, sent, asked, round_number=job["round"] + 1)
        return f"{found.describe()}\nsubmitted again what is missing: jobs {', '.join(jobs_in(sent))}"
    # A container may have no sbatch: then this job makes what is missing.
    generate(out, overrides=songs.overrides, audio=songs.audio, progress=False)
    return collect_or_submit_again({**job, "round": job["round"] + 1})


def _refuse_cancelled(out: Path, array: Sequence[str], missing: str) -> None:
    """What a person has cancelled is not submitted again, nor what nobody knows not to be."""
    for item in submissions(out):
        if array and item["jobs"] == array:
            cancelled = was_cancelled(item)
            name = f"the array that makes the songs (job {', '.join(array)})"
            if cancelled:
                raise CancelledError(f"{name} was cancelled; {GO_ON}\n{missing}")
            if cancelled is None:
                raise IncompleteError(f"how {name} ended is not known; {GO_ON}\n{missing}")


def _seen(settings: ClusterSettings, directory: Path) -> ClusterSettings:
    """``settings`` for a job that runs in ``directory``: nodes see it, whatever it looks like on this one."""
    return dataclasses.replace(settings, shared_disks=[*settings.shared_disks, str(directory)])

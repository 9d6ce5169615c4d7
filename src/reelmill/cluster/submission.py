"""Handing work to Slurm through submitit: folders, the sbatch file, arrays, what lasts of a submission.

DIRECTORY/logs/code/HASH/                    the code of each submission
DIRECTORY/logs/submissions/STAGE-TIME/       one a submission
    job.json                                 what the job reads when it starts
    submission.json                          job ids, their code and what was asked for
    journal-0.jsonl                          starts, requeues, the end; one an array element
    …_submission.sh, …_submitted.pkl, …_log.out    submitit's
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from reelmill import durable
from reelmill.cluster import queue
from reelmill.cluster.arrays import Part, array_parts, likely_max_array_size, max_array_size
from reelmill.cluster.cancelling import all_or_none, cancel
from reelmill.cluster.environment import replaced, submission_environment
from reelmill.cluster.node.task import Job
from reelmill.cluster.preflight.limits import refuse_array, refuse_impossible, refuse_percent
from reelmill.cluster.settings import ClusterSettings
from reelmill.cluster.snapshot import snapshot_path, take_snapshot
from reelmill.errors import IncompleteError, RequestError

JOB, SUBMISSION = "job.json", "submission.json"
SUBMISSIONS = "logs/submissions"
SBATCH_SECONDS = 120
"""How long sbatch may take; it asks a busy controller again by itself."""

_TIMED_OUT = (124, 137)  # exit codes of timeout(1)


@dataclass(frozen=True)
class Submission:
    """One call of a stage. ``folder`` takes its logs; ``jobs`` are Slurm's numbers, one an array."""

    stage: str
    folder: Path
    jobs: list[str]


@dataclass(frozen=True)
class Request:
    """What is to be submitted: ``make(job_file, share)`` gives the job object of one task."""

    stage: str
    directory: Path  # the run or the songs directory
    facts: dict[str, Any]  # what job.json says beside stage and directory
    tasks: int | None = None  # None: one job; else an array of so many
    make: Callable[[str, int], Callable[[], None]] = Job


def submit(
    request: Request, settings: ClusterSettings, after: Sequence[str] = (), condition: str = "afterok"
) -> Submission:
    """Queue all of ``request`` or nothing, to start once the jobs ``after`` have ended as ``condition`` says.

    Raises RequestError for what the cluster cannot give, IncompleteError if Slurm does not answer or refuses.
    """
    refuse_impossible(settings, request.directory)
    parts = [Part(0, 1, 1)]
    if request.tasks is not None:
        refuse_array(request.tasks)
        parts = array_parts(request.tasks, settings.array_parallelism, max_array_size())
    code = take_snapshot(code_directory(request.directory))
    folder = new_folder(request)
    jobs: list[str] = []
    with all_or_none(lambda: jobs):
        for number, part in enumerate(parts):
            place = folder if len(parts) == 1 else folder / f"part-{number}"
            job_file = write_job(request, settings, place, part.first)
            waits = [f"{condition}:{':'.join(after)}"] if after else []
            waits += [] if part.after is None else [f"afterany:{jobs[part.after]}"]
            # Before it, too: an sbatch without an answer may queue one.
            _record(request, settings, folder, code, jobs)
            try:
                jobs.append(_sbatch(request, settings, place, code, job_file, ",".join(waits), part))
            except RequestError:
                if not jobs:  # nothing was queued, so nothing has to be looked for
                    (folder / SUBMISSION).unlink()
                raise
            _record(request, settings, folder, code, jobs)
    return Submission(request.stage, folder, jobs)


def refuse(request: Request, settings: ClusterSettings) -> None:
    """RequestError for what cannot be queued: impossible here, not taken by sbatch, or at it already."""
    refuse_impossible(settings, request.directory)
    refuse_second(request.directory, request.stage)
    refuse_untaken(request, settings)


def refuse_untaken(request: Request, settings: ClusterSettings) -> None:
    """RequestError in Slurm's own words if sbatch would not take the script of ``request``: for an account, a
    QOS, a constraint or a licence that is not there, say. Nothing is queued.
    """
    part = None
    if request.tasks is not None:
        part = array_parts(request.tasks, settings.array_parallelism, max_array_size())[0]
    script = batch_script(request, settings, part)
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        with replaced(submission_environment(os.environ, settings.pass_environment)):
            try:
                queue.ask("sbatch", "--test-only", file.name)
            except IncompleteError as error:
                if "no answer" in str(error):
                    raise
                raise RequestError(
                    f"{request.stage}: sbatch --test-only refuses the job ({error}); see `account`, `qos`, "
                    "`extra`, `exclude` in the cluster file; yours: sacctmgr show assoc user=$USER"
                ) from None


def batch_scripts(request: Request, settings: ClusterSettings) -> str:
    """The sbatch file that ``submit`` would hand over; of an array in parts the first one, and a line for
    each further one. Writes nothing; asks Slurm for MaxArraySize if there is a Slurm.
    """
    if request.tasks is None:
        return batch_script(request, settings)
    parts = array_parts(request.tasks, settings.array_parallelism, likely_max_array_size())
    further = [
        f"# part {number}: the same for shares from {part.first} on, "
        f"--array=0-{part.size - 1}%{min(part.size, part.cap)}"
        + ("" if part.after is None else f", once part {part.after} has ended")
        for number, part in enumerate(parts[1:], 1)
    ]
    if not further:
        return batch_script(request, settings, parts[0])
    first = batch_script(request, settings, parts[0], "part-0").rstrip("\n")
    heading = f"# {request.tasks} tasks in {len(parts)} arrays, since MaxArraySize allows no longer ones"
    return "\n".join([heading, first, *further, ""])


def batch_script(
    request: Request, settings: ClusterSettings, part: Part | None = None, place: str = ""
) -> str:
    """The sbatch file of one job, or of one ``part`` of an array, at ``place`` in its submission's folder.
    Writes and asks nothing.
    """
    refuse_percent(request.directory)
    folder = _folder(request) / place
    code = snapshot_path(code_directory(request.directory))
    parameters = _parameters(request, settings, code, folder / JOB, "", part)
    if part is not None:
        parameters["map_count"] = part.size
    command = f"{settings.interpreter} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    text: str = _make_sbatch_string(command=command, folder=folder, **parameters)
    return text


def submissions(directory: Path) -> list[dict[str, Any]]:
    """What was submitted for a run or songs directory, oldest first; ``folder`` is added to each."""
    found = []
    for path in sorted((directory / SUBMISSIONS).glob(f"*/{SUBMISSION}")):
        by = {"user": path.stat().st_uid}  # of a submission that does not say
        found.append({**by, **durable.read_json(path), "folder": str(path.parent.absolute())})
    return sorted(found, key=lambda item: item["time"])


def code_directory(directory: Path) -> Path:
    """Where the code of a directory's submissions lies, a snapshot each (see ``snapshot``)."""
    return directory.absolute() / "logs" / "code"


def queued(directory: Path, stage: str = "") -> list[queue.QueuedJob]:
    """The jobs for ``directory`` in the queue, whoever submitted them: those noted and those whose batch
    script lies there; of one ``stage`` only, if it is given.

    Slurm is asked only if something was submitted. Raises what ``queue.listed`` raises: then nobody knows.
    """
    sent = [item for item in submissions(directory) if stage in ("", item["stage"])]
    if not sent:
        return []
    noted = {job for item in sent for job in item["jobs"]}
    scripts = tuple(f"{item['folder']}/" for item in sent)
    return [
        job
        for job in queue.listed({item["user"] for item in sent})
        if job.number in noted or job.script.startswith(scripts)
    ]


def refuse_second(directory: Path, stage: str) -> None:
    """RequestError if a job of the same stage for ``directory`` is still in the queue; it is named.
    IncompleteError where that cannot be known.
    """
    try:
        found = queued(directory, stage)
    except IncompleteError as error:
        raise IncompleteError(
            f"{directory}: whether a job is at it already is not known, so nothing is submitted: {error}"
        ) from None
    if found:
        raise RequestError(
            f"{directory}: job {found[0].job} is at it already ({found[0].state}); "
            f"see `reelmill status {directory}`, or end it first: `reelmill stop {directory}`"
        )


def write_job(request: Request, settings: ClusterSettings, folder: Path, first: int = 0) -> Path:
    """Write ``job.json`` into ``folder``; its path. ``first`` is the share of an array's element 0."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOB
    durable.write_json(
        path,
        {
            "stage": request.stage,
            "directory": str(request.directory.absolute()),
            "max_starts_without_progress": settings.max_starts_without_progress,
            "warning": settings.warning,
            "first": first,
            "tasks": request.tasks or 1,
            **request.facts,
        },
    )
    return path


def new_folder(request: Request) -> Path:
    """A directory of its own for this submission."""
    while True:
        folder = _folder(request)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder


def _folder(request: Request) -> Path:
    now = time.strftime("%Y%m%d-%H%M%S", time.localtime()) + f"-{time.time_ns() // 1_000_000 % 1000:03d}"
    return request.directory.absolute() / SUBMISSIONS / f"{request.stage}-{now}"


class _Executor(SlurmExecutor):
    """submitit's, with an end to sbatch."""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return ["timeout", "--kill-after=5", str(SBATCH_SECONDS), "sbatch", str(submission_file_path)]


def _sbatch(
    request: Request,
    settings: ClusterSettings,
    folder: Path,
    code: Path,
    job_file: Path,
    dependency: str,
    part: Part,
) -> str:
    array = None if request.tasks is None else part
    with replaced(submission_environment(os.environ, settings.pass_environment)):
        executor = _Executor(folder=folder, python=settings.interpreter)
        executor.update_parameters(**_parameters(request, settings, code, job_file, dependency, array))
        try:
            if array is None:
                return str(executor.submit(request.make(str(job_file), 0)).job_id)
            with executor.batch():
                queued = [
                    executor.submit(request.make(str(job_file), array.first + share))
                    for share in range(array.size)
                ]
            return str(queued[0].job_id).split("_")[0]
        except (FailedJobError, FailedSubmissionError) as error:
            if isinstance(error.__cause__, CalledProcessError) and error.__cause__.returncode in _TIMED_OUT:
                raise IncompleteError(
                    f"sbatch: no answer in {SBATCH_SECONDS} seconds{_cancel_late(folder)}"
                ) from None
            said = str(error).strip().splitlines()
            raise RequestError(f"sbatch refused: {said[-1] if said else 'no reason given'}") from None
        except KeyboardInterrupt:
            _cancel_late(folder)
            raise


def _cancel_late(folder: Path) -> str:
    """Cancel what an sbatch without an answer has queued all the same; what became of it, in words."""
    try:
        found = {job.number for job in queue.listed(()) if job.script.startswith(f"{folder}/")}
    except IncompleteError as error:
        return f"; whether it has queued a job is not known ({error}): squeue --me"
    return cancel(sorted(found))


def _parameters(
    request: Request,
    settings: ClusterSettings,
    code: Path,
    job_file: Path,
    dependency: str,
    part: Part | None,
) -> dict[str, Any]:
    gpus = f"{settings.gpu_type}:{settings.gpus_per_node}" if settings.gpu_type else settings.gpus_per_node
    extra: dict[str, Any] = {"requeue": True, "kill-on-invalid-dep": "yes"}
    batch = shlex.quote(str(code / "reelmill" / "cluster" / "node" / "batch.sh"))
    for option in settings.extra:
        name, equals, value = option.removeprefix("--").partition("=")
        extra[name] = value if equals else True
    return {
        "job_name": f"{request.stage}-{request.directory.absolute().name}",
        "partition": settings.partition or None,
        "account": settings.account or None,
        "qos": settings.qos or None,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.tasks_per_node,
        "gpus_per_node": gpus if settings.gpus_per_node else None,
        "cpus_per_task": settings.cpus_per_task,
        "mem": settings.memory or None,
        "time": settings.time,
        "exclude": settings.exclude or None,
        "dependency": dependency or None,
        "array_parallelism": part.cap if part else 1,
        "signal_delay_s": settings.warning,
        "stderr_to_stdout": True,
        "wckey": None,
        "additional_parameters": extra,
        "setup": [
            *settings.setup,
            f"export REELMILL_JOB={shlex.quote(str(job_file))}",
            f"export REELMILL_PYTHON={shlex.quote(settings.interpreter)}",
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            f". {batch} || {{ echo 'reelmill: the code of this job is gone: submit it again' >&2; exit 1; }}",
        ],
    }


def _record(
    request: Request, settings: ClusterSettings, folder: Path, code: Path, jobs: Sequence[str]
) -> None:
    durable.write_json(
        folder / SUBMISSION,
        {
            "stage": request.stage,
            "time": time.time(),
            "jobs": list(jobs),
            "user": os.getuid(),
            "tasks": request.tasks or 1,
            "code": str(code),
            "cluster": dataclasses.asdict(settings),
        },
    )

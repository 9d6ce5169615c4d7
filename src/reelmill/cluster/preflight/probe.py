"""Small jobs that look at the nodes: the shared disk, Python, abc2midi, the soundfont, GPUs, and whether two
tasks reach each other.

They are submitted exactly as a training is, one for each kind of place that the stages of a cluster file run
at, from directories of their own under the place where runs will lie, which are removed afterwards.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from reelmill.audio.settings import AudioSettings
from reelmill.cluster import queue
from reelmill.cluster.cancelling import cancel
from reelmill.cluster.node import task
from reelmill.cluster.preflight.judgement import judge
from reelmill.cluster.preflight.machine import PACKAGES, Finding, abc2midi, import_problem, soundfont
from reelmill.cluster.settings import ClusterSettings, Stage
from reelmill.cluster.submission import Request, Submission, submit
from reelmill.config import parse
from reelmill.errors import IncompleteError, RequestError

_MEETING = timedelta(seconds=60)


class ProbeJob(task.Job):
    """One task of a probe; writes what it sees to ``rank-N.json`` in the probe's directory."""

    def work(self) -> bool:
        place = Path(self.job_file).parent
        audio = parse(AudioSettings, self.facts()["audio"], self.job_file)
        rank = int(os.environ["RANK"])
        seen: dict[str, Any] = {"host": os.uname().nodename, "python": sys.executable, "tools": []}
        seen["imports"] = [f"{name} ({why})" for name in PACKAGES if (why := import_problem(name))]
        seen["gpus"] = _gpus()
        seen["processors"], seen["node"] = len(os.sched_getaffinity(0)), os.cpu_count() or 1
        if not seen["imports"]:
            seen["tools"] = [asdict(abc2midi()), asdict(soundfont(audio))]
        _write(place, rank, seen)  # once before they meet: a task may hang or die there
        if not seen["imports"] and int(os.environ["WORLD_SIZE"]) > 1:
            for backend in ["gloo", *(["nccl"] if seen["gpus"] else [])]:  # training speaks both
                seen[backend] = _meeting(backend)
                _write(place, rank, seen)
        return True


@dataclass(frozen=True)
class Probe:
    """What one probe asks for, and the stages that it speaks for."""

    stages: list[Stage]
    asked: ClusterSettings

    @property
    def suffix(self) -> str:
        """For the names of its findings: none where training runs."""
        return "" if "train" in self.stages else f" ({', '.join(self.stages)})"


def probes_of(settings: Mapping[Stage, ClusterSettings]) -> list[Probe]:
    """A probe for each kind of place that the stages run at: stages of one partition, QOS, Python and set-up
    share one. Two tasks where training runs, on two nodes if it takes several; else one.
    """
    found: list[Probe] = []
    for stage, setting in settings.items():
        speaking = (probe for probe in found if _speaks_for(probe.asked, setting))
        if probe := next(speaking, None):
            probe.stages.append(stage)
        else:
            found.append(Probe([stage], _asked(setting, 2 if stage == "train" else 1)))
    return found


def _speaks_for(asked: ClusterSettings, settings: ClusterSettings) -> bool:
    """Whether a probe that ``asked`` so sees what jobs of ``settings`` will see."""
    same = ["partition", "account", "qos", "exclude", "extra", "setup", "python", "pass_environment"]
    same += ["gpu_type"] if settings.gpus_per_node else []
    enough = asked.gpus_per_node > 0 or not settings.gpus_per_node
    return enough and all(getattr(asked, name) == getattr(settings, name) for name in same)


def _asked(settings: ClusterSettings, tasks: int) -> ClusterSettings:
    nodes = min(tasks, settings.nodes)
    here = tasks // nodes
    gpus = min(here, settings.gpus_per_node)
    return dataclasses.replace(
        settings,
        nodes=nodes,
        tasks_per_node=gpus or here,
        gpus_per_node=gpus,
        time=max(5, min(10, settings.time)),
        warning=60,
        max_starts_without_progress=1,
    )


def probe(
    settings: Mapping[Stage, ClusterSettings], place: Path, wait: float, audio: AudioSettings | None = None
) -> Iterator[Finding]:
    """Send the probes, all at once, and say what came of each.

    ``wait`` is in seconds, the time in the queue included; the soundfont looked for is that of ``audio``.
    """
    place.mkdir(parents=True, exist_ok=True)
    facts = {"audio": asdict(audio or AudioSettings())}
    sent: list[tuple[Probe, Submission | RequestError]] = []
    directories: list[Path] = []
    end = time.monotonic() + wait
    try:
        for item in probes_of(settings):
            directories.append(Path(tempfile.mkdtemp(prefix=".doctor-", dir=place.absolute())))
            sent.append((item, _send(item.asked, directories[-1], facts)))
        for item, answer in sent:
            for finding in _came(answer, item.asked, place, wait, end):
                yield dataclasses.replace(finding, check=finding.check + item.suffix)
    finally:
        running = [job for _, answer in sent if isinstance(answer, Submission) for job in answer.jobs]
        cancel(running)  # of those that have ended nothing is left to cancel
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)


def _send(asked: ClusterSettings, directory: Path, facts: dict[str, Any]) -> Submission | RequestError:
    request = Request("doctor", directory, facts, make=ProbeJob)
    # Whether nodes see it is what is to be found out.
    seen = dataclasses.replace(asked, shared_disks=[*asked.shared_disks, str(directory)])
    try:
        return submit(request, seen)
    except (IncompleteError, RequestError) as error:
        return RequestError(str(error))


def _came(
    answer: Submission | RequestError, asked: ClusterSettings, place: Path, wait: float, end: float
) -> Iterator[Finding]:
    if isinstance(answer, RequestError):
        yield Finding(
            "submission",
            "wrong",
            str(answer),
            "mend `account`, `qos` or `extra` in the cluster file; yours: sacctmgr show assoc user=$USER",
        )
        return
    yield requeue_allowed(answer.jobs[0])
    job, folder, started = answer.jobs[0], answer.folder, False
    while found := [item for item in queue.listed(()) if item.number == job]:
        started = started or any(item.state != "PENDING" for item in found) or any(_reports(folder))
        if time.monotonic() >= end:
            break
        time.sleep(1)
    if started or not found:
        yield from judge(_reports(folder), _log(folder), asked, place)
    else:
        why = f"still {found[0].state} ({found[0].reason}) after {wait:.0f} seconds"
        seen = f"{why}: nothing is known of the nodes"
        yield Finding("probe", "warning", seen, "try again with a longer --wait, or another partition")


def requeue_allowed(job: str) -> Finding:
    """Whether Slurm will queue a job again that asked for it."""
    shown = queue.ask("scontrol", "show", "job", "-o", job)
    if " Requeue=1" in f" {shown}":
        return Finding("requeue", "ok", "allowed")
    return Finding(
        "requeue",
        "wrong",
        "this cluster took --requeue away from the job",
        "choose a partition or QOS that allows it; else run jobs.train again after each end: it goes on",
    )


def _gpus() -> int:
    try:
        import torch

        return int(torch.cuda.device_count())
    except Exception:
        return 0


def _meeting(backend: str) -> str:
    import torch
    from torch import distributed

    try:
        distributed.init_process_group(backend, timeout=_MEETING)
        rank = int(os.environ["LOCAL_RANK"])
        device = f"cuda:{rank % torch.cuda.device_count()}" if backend == "nccl" else "cpu"
        counted = torch.ones(1, device=device)
        distributed.all_reduce(counted)
        met = int(counted.item()) == distributed.get_world_size()
        distributed.destroy_process_group()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "ok" if met else "a wrong sum came back"


def _write(place: Path, rank: int, seen: dict[str, Any]) -> None:
    partial = place / f"rank-{rank}.partial"
    partial.write_text(json.dumps(seen), encoding="utf-8")
    partial.replace(place / f"rank-{rank}.json")


def _reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("rank-*.json"))]


def _log(folder: Path) -> str:
    return "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*_log.out"))
    )

"""Chains of jobs: queued whole or not at all, one task a job, and ended clearly where planning has failed.

Slurm's commands are programs that note what they are asked; ``tests/slurm`` has a real one.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from reelmill import config, durable
from reelmill.audio.settings import AudioSettings
from reelmill.cluster.generate import Songs, generate_on_cluster, overnight, scripts
from reelmill.cluster.node.collecting import collect_or_submit_again
from reelmill.cluster.node.planned import planned
from reelmill.cluster.node.task import Job
from reelmill.cluster.preflight import songs_request
from reelmill.cluster.settings import ClusterSettings, Stage
from reelmill.cluster.submission import submissions
from reelmill.cluster.train import train_on_cluster
from reelmill.config import Config
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import CancelledError, IncompleteError, RequestError
from reelmill.model import TrainedModel, new_network
from reelmill.songs.make.generate import generate
from reelmill.songs.results.disk import Disk
from reelmill.songs.store.plan import SECTIONS, grow_plan, read_plan
from reelmill.training.settings import ModelSettings
from tests.songs.conftest import write_run

SHAPE = ModelSettings(embedding_size=8, hidden_size=32)
TUNES = "\n".join(f"X:{n}\nT:Reel\nM:4/4\nL:1/8\nK:G\nGABG d2B{'ABCDEFG'[n % 7]}|]\n" for n in range(1, 41))


class Slurm:
    """What sbatch and scancel were asked, and what they are to answer."""

    def __init__(self, texts: Path) -> None:
        self.texts = texts
        self._program("scancel", f'echo "$@" >> {texts}/cancelled')
        self._program("srun", "exit 1")  # submitit wants to see one
        self._program("sacct", f"cat {texts}/ended")
        self._program("squeue", f"cat {texts}/queue 2>/dev/null; true")
        self._program(
            "sbatch",
            'if [ "$1" = --test-only ]; then exit 0; fi\n'
            f'echo "$1" >> {texts}/scripts\n'
            f"number=$(wc -l < {texts}/scripts)\n"
            f'if [ "$number" = "$(cat {texts}/refuse 2>/dev/null)" ]; then\n'
            f"  if [ -e {texts}/hang ]; then\n"
            f'    echo "$number|PENDING|None||0:00|9:00||$1" > {texts}/queue; exec sleep 60\n'
            "  fi\n"
            '  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1\n'
            "fi\n"
            'echo "Submitted batch job $number"',
        )

    def refuse(self, number: int, hang: bool = False) -> None:
        (self.texts / "refuse").write_text(str(number))
        if hang:
            (self.texts / "hang").touch()

    @property
    def submitted(self) -> list[str]:
        """The sbatch files, oldest first; what was refused too."""
        return self._lines("scripts")

    @property
    def cancelled(self) -> list[str]:
        return sorted(job for line in self._lines("cancelled") for job in line.split())

    def _lines(self, name: str) -> list[str]:
        path = self.texts / name
        return path.read_text().splitlines() if path.exists() else []

    def _program(self, name: str, body: str) -> None:
        path = self.texts / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def slurm(cluster_of_texts: Path) -> Slurm:
    return Slurm(cluster_of_texts)


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    (tmp_path / "tunes.abc").write_text(TUNES)
    corpus = {"source": str(tmp_path / "tunes.abc"), "directory": str(tmp_path / "corpus")}
    return config.from_dict(
        {
            "corpus": corpus,
            "model": dataclasses.asdict(SHAPE),
            "sampling": {"max_length": 40, "slots": 32},
            "songs": {"songs_per_shard": 8, "require": "none"},
            "tracking": {"comet": False},
        },
        "the test",
    )


@pytest.fixture
def run(tmp_path: Path, settings: Config) -> Path:
    return trained(tmp_path / "run", settings, seed=1)


def trained(directory: Path, settings: Config, seed: int) -> Path:
    vocabulary = Vocabulary.from_texts([TUNES])
    network = new_network(SHAPE, vocabulary, seed=seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
    return write_run(directory, TrainedModel(network.eval(), vocabulary, SHAPE), config.to_dict(settings))


def clusters(**changes: Any) -> dict[Stage, ClusterSettings]:
    given = ClusterSettings(**changes)
    return {"train": given, "generate": given, "collect": given}


def songs(run: Path, **changes: Any) -> Songs:
    return dataclasses.replace(Songs(run, run.parent / "songs", 16, 2, audio=False), **changes)


def collect_job(directory: Path) -> dict[str, Any]:
    """The facts of the collect job that was submitted."""
    (found,) = (item for item in submissions(directory) if item["stage"] == "collect")
    facts: dict[str, Any] = durable.read_json(Path(found["folder"]) / "job.json")
    return facts


def options(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_was_queued_before_a_refusal_is_cancelled(
    slurm: Slurm, settings: Config, tmp_path: Path, number: int
) -> None:
    slurm.refuse(number)
    with pytest.raises(RequestError, match=r"sbatch refused: .*QOSMaxSubmitJobPerUserLimit") as refusal:
        overnight(settings, songs(tmp_path / "run"), clusters())
    assert len(slurm.submitted) == number
    assert slurm.cancelled == [str(job) for job in range(1, number)]
    assert all(job in str(refusal.value).split("queued: cancelled")[0] for job in slurm.cancelled)


def test_a_script_that_sbatch_would_not_take_is_refused_in_its_words(
    slurm: Slurm, settings: Config, run: Path, tmp_path: Path
) -> None:
    words = "sbatch: error: Invalid account or account/partition combination specified"
    (slurm.texts / "sbatch").write_text(f"#!/bin/sh\necho '{words}' >&2; exit 1\n")
    for submit in (
        lambda: overnight(settings, songs(tmp_path / "new"), clusters()),
        lambda: generate_on_cluster(songs(run), clusters()),
        lambda: train_on_cluster(settings, tmp_path / "new", clusters()["train"]),
    ):
        with pytest.raises(RequestError, match=r"--test-only refuses .*Invalid account.*`account`"):
            submit()
    assert not (tmp_path / "new").exists() and not (tmp_path / "songs").exists()


def test_a_refused_part_of_an_array_cancels_the_others(slurm: Slurm, run: Path) -> None:
    (slurm.texts / "config").write_text("MaxArraySize = 5\n")
    slurm.refuse(3)
    with pytest.raises(RequestError, match="jobs 1, 2 already queued: cancelled"):
        generate_on_cluster(songs(run, tasks=12), clusters())
    assert slurm.cancelled == ["1", "2"]


def test_jobs_that_could_not_be_cancelled_are_named(slurm: Slurm, run: Path) -> None:
    (slurm.texts / "scancel").write_text("#!/bin/sh\nexit 1\n")
    slurm.refuse(2)
    with pytest.raises(RequestError, match=r"job 1 .*could not be cancelled.*: scancel 1"):
        generate_on_cluster(songs(run), clusters())


def test_an_sbatch_without_an_answer_ends_and_what_it_queued_is_cancelled(
    slurm: Slurm, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelmill.cluster.submission.SBATCH_SECONDS", 1)
    slurm.refuse(2, hang=True)
    with pytest.raises(IncompleteError, match="sbatch: no answer in 1 seconds"):
        generate_on_cluster(songs(run), clusters())
    assert slurm.cancelled == ["1", "2"]


def test_parts_keep_the_cap_and_wait_where_there_are_more(slurm: Slurm, run: Path) -> None:
    (slurm.texts / "config").write_text("MaxArraySize = 5\n")
    generate_on_cluster(songs(run, tasks=12), clusters(array_parallelism=2))
    (found,) = (item for item in submissions(run.parent / "songs") if item["stage"] == "generate")
    parts = [
        options(next((Path(found["folder"]) / f"part-{number}").glob("*_submission.sh")).read_text())
        for number in range(3)
    ]
    assert ["--array=0-3%1" in part for part in parts] == [True] * 3
    assert [[text for text in part if "dependency" in text] for part in parts] == [
        [], [], ["--dependency=afterany:1"]
    ]  # fmt: skip
    printed = scripts(songs(run, tasks=12), clusters(array_parallelism=2))
    assert "# part 2: the same for shares from 8 on, --array=0-3%1, once part 0 has ended" in printed


def test_only_training_has_several_tasks(slurm: Slurm, settings: Config, tmp_path: Path) -> None:
    several = clusters(nodes=2, tasks_per_node=2, gpus_per_node=2, gpu_type="a100")
    (slurm.texts / "nodes").write_text(
        "main*|up|infinite|64|256000|gpu:a100:8\nmain*|up|infinite|64|256000|gpu:a100:8\n"
    )
    overnight(settings, songs(tmp_path / "run"), several)
    stages: dict[str, list[str]] = {}
    for directory in (tmp_path / "run", tmp_path / "songs"):
        for item in submissions(directory):
            stages[item["stage"]] = options(next(Path(item["folder"]).glob("*_submission.sh")).read_text())
    assert {"--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=a100:2"} < set(stages["train"])
    for stage in ("plan", "generate", "collect"):
        assert {"--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=a100:1"} < set(stages[stage])
    again = collect_job(tmp_path / "songs")["clusters"]
    assert [(again[stage]["nodes"], again[stage]["tasks_per_node"]) for stage in again] == [(1, 1), (1, 1)]


def test_a_type_of_gpu_is_not_asked_for_where_no_gpu_is(run: Path) -> None:
    assert "gpus-per-node" not in scripts(songs(run), clusters(gpu_type="a100"))


def test_a_night_whose_planning_failed_does_not_take_an_earlier_nights_songs(
    slurm: Slurm, settings: Config, run: Path, tmp_path: Path
) -> None:
    generate(run, tmp_path / "songs", songs=16, audio=False, progress=False)  # complete and intact
    overnight(settings, songs(tmp_path / "tonight", songs=24), clusters())
    queued = len(slurm.submitted)
    job = collect_job(tmp_path / "songs")
    with pytest.raises(
        RequestError, match=r"not planned by this chain.*an earlier one.*training did not end well"
    ):
        collect_or_submit_again(job)
    Job(job["plan_job"])  # has a job file; that of the failed one says why
    Path(job["plan_job"]).with_name("journal-0.jsonl").write_text(
        '{"event": "end", "reason": "the request is wrong"}\n'
    )
    with pytest.raises(RequestError, match="planning ended: the request is wrong"):
        collect_or_submit_again(job)
    assert len(slurm.submitted) == queued
    assert not (tmp_path / "songs" / "summary.json").exists()


def test_a_night_that_was_planned_is_collected_or_gone_on_with(
    slurm: Slurm, settings: Config, run: Path, tmp_path: Path
) -> None:
    tonight = songs(tmp_path / "tonight", songs=24)
    overnight(settings, tonight, clusters())
    shutil.copytree(run, tonight.run, dirs_exist_ok=True)  # the training
    job = collect_job(tmp_path / "songs")
    assert Job(job["plan_job"]).work()
    (slurm.texts / "ended").write_text("3_0|FAILED\n3_1|COMPLETED\n")
    assert "submitted again what is missing" in collect_or_submit_again(job)
    assert planned(tmp_path / "songs")["songs"] == 24
    again = [item for item in submissions(tmp_path / "songs") if item["stage"] == "collect"][-1]
    assert durable.read_json(Path(again["folder"]) / "job.json")["planned"] == planned(tmp_path / "songs")


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ("1_0|FAILED\n1_1|CANCELLED by 0\n", CancelledError, "(job 1) was cancelled"),
        (None, IncompleteError, "ended is not known"),
    ],
)
def test_what_was_cancelled_or_is_not_known_is_not_submitted_again(
    slurm: Slurm, run: Path, tmp_path: Path, told: str | None, error: type[Exception], said: str
) -> None:
    generate_on_cluster(songs(run), clusters())
    queued = len(slurm.submitted)
    if told:
        (slurm.texts / "ended").write_text(told)
    with pytest.raises(error, match=re.escape(said)) as ended:
        collect_or_submit_again(collect_job(tmp_path / "songs"))
    assert "goes on from what is made" in str(ended.value)
    assert len(slurm.submitted) == queued


@pytest.mark.parametrize("scheduler", ["slurm", "local"])
def test_a_second_nights_settings_are_tonights(
    slurm: Slurm,
    settings: Config,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: Literal["slurm", "local"],
) -> None:
    """The run is trained already, and its own configuration is the first night's."""
    monkeypatch.setattr("reelmill.cluster.generate.finished", lambda *_: True)
    monkeypatch.setattr("reelmill.cluster.generate._generate_here", lambda *_: None)
    overrides = [
        "sampling.temperature=1.1",
        "songs.require=bars",
        'songs.prompts=["X:1\\n"]',
        "audio.format=flac",
    ]
    tonight = config.from_dict(config.to_dict(settings), "the test", overrides)
    overnight(tonight, songs(run, audio=True), clusters(scheduler=scheduler))
    if scheduler == "slurm":
        assert Job(collect_job(tmp_path / "songs")["plan_job"]).work()
    plan = read_plan(tmp_path / "songs")
    assert config.differences(plan.config(), tonight, SECTIONS) == []


def test_more_tasks_than_shards_are_told(slurm: Slurm, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate_on_cluster(songs(run, tasks=5), clusters())
    assert (
        "16 songs are 2 shards (songs.songs_per_shard = 8), so 3 tasks will find nothing"
        in capsys.readouterr().err
    )


def test_sound_that_somebody_else_is_adding_is_left_to_them(slurm: Slurm, run: Path, tmp_path: Path) -> None:
    generate_on_cluster(songs(run), clusters())
    queued = len(slurm.submitted)
    job = collect_job(tmp_path / "songs")
    assert generate(tmp_path / "songs", audio=False, progress=False).complete
    grow_plan(tmp_path / "songs", audio=AudioSettings(format="flac"))  # as render does first
    assert "every id exactly once" in collect_or_submit_again(job)
    assert len(slurm.submitted) == queued and (tmp_path / "songs" / "report.html").exists()


def test_a_strange_file_costs_no_round_and_is_named_at_the_end(
    slurm: Slurm, run: Path, tmp_path: Path
) -> None:
    generate_on_cluster(songs(run), clusters())
    queued = len(slurm.submitted)
    job = collect_job(tmp_path / "songs")
    assert generate(tmp_path / "songs", audio=False, progress=False).complete
    (tmp_path / "songs" / "text" / "list.txt").touch()
    with pytest.raises(IncompleteError, match=r"list\.txt: not a file of this plan; remove it"):
        collect_or_submit_again(job)
    assert len(slurm.submitted) == queued and (tmp_path / "songs" / "report.html").exists()


def test_another_plan_than_the_chains_own_is_neither_collected_nor_gone_on_with(
    slurm: Slurm, settings: Config, run: Path, tmp_path: Path
) -> None:
    generate_on_cluster(songs(run, songs=24), clusters())
    queued = len(slurm.submitted)
    job = collect_job(tmp_path / "songs")
    shutil.rmtree(tmp_path / "songs")
    other = trained(tmp_path / "other", settings, seed=2)
    overrides: Sequence[str] = ["sampling.temperature=0.7"]
    generate(other, tmp_path / "songs", songs=16, overrides=overrides, seed=3, audio=False, progress=False)
    with pytest.raises(RequestError) as refusal:
        collect_or_submit_again(job)
    assert all(
        f"{key} is " in str(refusal.value) for key in ("seed", "model", "songs", "sampling.temperature")
    )
    assert len(slurm.submitted) == queued


def test_a_night_that_an_earlier_plan_rules_out_is_refused_at_once(
    slurm: Slurm, settings: Config, run: Path, tmp_path: Path
) -> None:
    generate(run, tmp_path / "songs", songs=16, audio=False, progress=False)
    for changes in ({"songs": 8}, {"seed": 1}):
        with pytest.raises(RequestError, match=f"{next(iter(changes))} is "):
            overnight(settings, songs(tmp_path / "tonight", **changes), clusters())
    assert slurm.submitted == []


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ({"backend": "timidity"}, "no program 'timidity'.*install Debian's timidity"),
        ({"soundfont": "/nowhere.sf2"}, r"audio\.soundfont = '/nowhere\.sf2': no such file"),
    ],
)
def test_sound_that_cannot_be_made_is_refused_before_anything_is_queued(
    slurm: Slurm,
    settings: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    audio: dict[str, Any],
    said: str,
) -> None:
    (tmp_path / "programs").mkdir()
    for name in ("cat", "sh", "wc", "timeout"):
        (tmp_path / "programs" / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", f"{slurm.texts}:{tmp_path / 'programs'}")
    night = dataclasses.replace(settings, audio=dataclasses.replace(settings.audio, **audio))
    with pytest.raises(RequestError, match=said):
        overnight(night, songs(tmp_path / "run", audio=True), clusters())
    assert slurm.submitted == []
    overnight(night, songs(tmp_path / "run", audio=False), clusters())
    assert len(slurm.submitted) == 4


def test_a_corpus_that_nodes_do_not_see_is_refused(slurm: Slurm, settings: Config, tmp_path: Path) -> None:
    (slurm.texts / "node").write_text("NodeName=n1 NodeHostName=another-machine\n")
    seen = [str(tmp_path / "run"), str(tmp_path / "songs")]
    with pytest.raises(
        RequestError, match=r"corpus \(corpus.directory, or REELMILL_CACHE\): .*/corpus: lies"
    ):
        overnight(settings, songs(tmp_path / "run"), clusters(shared_disks=seen))
    assert slurm.submitted == []


def test_songs_that_do_not_fit_are_refused_with_what_would(
    slurm: Slurm, settings: Config, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = songs(run, songs=10**9, audio=True)
    for submit in (
        lambda force: generate_on_cluster(many, clusters(), force),
        lambda force: overnight(
            settings, dataclasses.replace(many, run=run.parent / "new"), clusters(), force
        ),
    ):
        with pytest.raises(RequestError, match="that does not fit") as refusal:
            submit(False)
        assert re.search(r"what would fit: .*--songs \d{3,}; --force submits", str(refusal.value))
        assert slurm.submitted == []
        submit(True)
        assert slurm.submitted
        (slurm.texts / "scripts").unlink()
        shutil.rmtree(run.parent / "songs")
    fitting = songs_request._fitting(many, settings, Disk(10**9, 10**12), 6 * 10**11)
    assert "audio.format=flac" in fitting and "--no-audio (1.0 GB)" in fitting and "--songs" in fitting


def test_the_disk_is_said_before_anything_is_queued(
    slurm: Slurm, settings: Config, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.refuse(1)
    for submit, basis in (
        (
            lambda: overnight(settings, songs(run.parent / "tonight"), clusters()),
            "estimated from the settings",
        ),
        (lambda: generate_on_cluster(songs(run), clusters()), "measured on the first 16"),
    ):
        (slurm.texts / "scripts").unlink(missing_ok=True)
        with pytest.raises(RequestError, match="sbatch refused"):
            submit()
        said = capsys.readouterr().err
        assert "16 songs take about" in said and basis in said and "are free at" in said
    generate(run, run.parent / "songs", songs=16, audio=False, progress=False)
    printed = scripts(songs(run, songs=32), clusters()).splitlines()[0]
    assert printed.startswith("# 32 songs take about") and "as the shards that are there" in printed

"""What a job sees of the environment it is submitted from, and how a task finds its place."""

from __future__ import annotations

import os

import pytest

from reelmill.cluster.environment import looks_secret, replaced, submission_environment, take_rank


def test_no_secret_and_nothing_of_another_job() -> None:
    environment = submission_environment(
        {
            "PATH": "/bin",
            "SLURM_CONF": "/etc/slurm.conf",
            "NCCL_DEBUG": "INFO",
            "COMET_API_KEY": "sesame",
            "HF_TOKEN": "sesame",
            "CONDA_TOKEN": "sesame",
            "REELMILL_PASSWORD": "sesame",
            "AWS_SECRET_ACCESS_KEY": "sesame",
            "SLURM_CPU_BIND": "mask_cpu:0x1",
            "SLURM_JOB_ID": "7",
            "SBATCH_PARTITION": "old",
            "SUBMITIT_EXECUTOR": "slurm",
            "MASTER_ADDR": "n1",
            "RANK": "3",
            "REELMILL_JOB": "/other/job.json",
            "REELMILL_PROCESSORS": "8",
            "REELMILL_MEMORY": "16000000000",
            "MY_FLAG": "on",
        },
        further=["MY_FLAG", "HF_TOKEN"],
    )
    assert environment == {
        "PATH": "/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "NCCL_DEBUG": "INFO",
        "MY_FLAG": "on",
    }


@pytest.mark.parametrize(
    "name",
    [
        "COMET_API_KEY",
        "HF_TOKEN",
        "GITHUB_AUTHTOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "my_apikey",
        "KEY",
    ],
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "NCCL_IB_PKEY", "HF_TOKEN_PATH", "SSH_AUTH_SOCK", "MONKEY"]
)
def test_what_only_sounds_like_one_may_be_asked_for(name: str) -> None:
    assert not looks_secret(name)
    assert submission_environment({name: "1"}, [name]) == {name: "1"}


def test_the_environment_comes_back() -> None:
    before = dict(os.environ)
    with replaced({"PATH": "/nowhere"}):
        assert dict(os.environ) == {"PATH": "/nowhere"}
    assert dict(os.environ) == before


def test_a_task_takes_its_place_from_slurm() -> None:
    environment = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NTASKS": "8",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        "MASTER_ADDR": "n1",
    }
    assert take_rank(environment) == 5
    assert [environment[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")] == [
        "5",
        "1",
        "8",
        "4",
    ]


def test_songs_are_made_with_the_processors_of_the_task() -> None:
    """Also where Slurm binds no task to its own and all of the node can be seen."""
    here = len(os.sched_getaffinity(0))
    for given, before, used in (
        ("1", {}, "1"),
        ("1000", {}, str(here)),
        ("1", {"REELMILL_PROCESSORS": "3"}, "3"),
    ):
        environment = {"SLURM_CPUS_PER_TASK": given, **before}
        take_rank(environment)
        assert environment["REELMILL_PROCESSORS"] == used


@pytest.mark.parametrize(
    ("said", "memory"),
    [
        ({"SLURM_MEM_PER_NODE": "8192"}, str(8 << 30)),
        ({"SLURM_MEM_PER_NODE": "8192", "LOCAL_WORLD_SIZE": "4"}, str(2 << 30)),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_PER_TASK": "4"}, str(4 << 30)),
        ({"SLURM_MEM_PER_NODE": "8192", "REELMILL_MEMORY": "7"}, "7"),
        ({"SLURM_MEM_PER_NODE": "0"}, None),  # all of it
        ({}, None),
    ],
)
def test_songs_are_made_with_the_memory_of_the_task(said: dict[str, str], memory: str | None) -> None:
    environment = dict(said)
    take_rank(environment)
    assert environment.get("REELMILL_MEMORY") == memory


def test_without_slurm_its_place_is_as_the_launcher_said() -> None:
    environment = {"RANK": "1", "WORLD_SIZE": "2"}
    assert take_rank(environment) == 1
    assert environment == {"RANK": "1", "WORLD_SIZE": "2"}

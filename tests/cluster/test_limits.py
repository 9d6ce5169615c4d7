"""What a cluster cannot give is refused before submission, with the nearest that it can."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reelmill.cluster.preflight.limits import megabytes, refuse_array, request_problems
from reelmill.cluster.queue import Node, gpus, seconds
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import RequestError

NODES = [
    Node("main", 8, 64000, {}, default=True, max_minutes=1440),
    Node("gpu", 16, 128000, {"a100": 4}, max_minutes=60),
    Node("gpu", 16, 128000, {"v100": 2}, max_minutes=60),
    Node("old", 16, 128000, {"v100": 4}, up=False),
]
GPU = ClusterSettings(partition="gpu", tasks_per_node=4, gpus_per_node=4)


def problems(settings: ClusterSettings, **changes: object) -> list[str]:
    # Type: ignore[arg-type]
    return request_problems(dataclasses.replace(settings, **changes), NODES)


def test_what_fits_is_not_refused() -> None:
    assert problems(GPU) == []
    assert problems(ClusterSettings(time=1440, nodes=1, cpus_per_task=8)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partition": "gpuu"}, "did you mean 'gpu'?"),
        ({"partition": "old"}, "not up"),
        ({"time": 61}, "at most 60"),
        ({"nodes": 3}, "'gpu' has 2"),
        ({"gpus_per_node": 8, "tasks_per_node": 8}, "at most 4"),
        ({"gpus_per_node": 4, "gpu_type": "v100"}, "at most 2"),
        ({"gpu_type": "h100"}, "nodes have a100, v100"),
        ({"cpus_per_task": 5}, "at most 16"),
        ({"memory": "500G"}, "at most 128000M"),
    ],
)
def test_what_is_too_much_is_refused_with_the_most_there_is(changes: dict[str, object], said: str) -> None:
    (problem,) = problems(GPU, **changes)
    assert said in problem
    assert f"cluster.{next(iter(changes))}" in problem


def test_a_type_of_gpu_without_gpus_asks_for_none() -> None:
    assert problems(ClusterSettings(gpu_type="a100")) == []


def test_several_faults_are_all_named() -> None:
    assert len(problems(GPU, time=61, nodes=3, memory="500G")) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-00:00:00", 86400),
        ("30:00", 1800),
        ("45", 2700),
        ("2:03:04", 7384),
        ("2-3", 183600),
        ("UNLIMITED", None),
    ],
)
def test_slurms_times(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:2", {"": 2}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:4(S:0-1),gpu:v100:2,shard:8", {"a100": 4, "v100": 2}),
        ("(null)", {}),
    ],
)
def test_slurms_gpus(gres: str, expected: dict[str, int]) -> None:
    assert gpus(gres) == expected


def test_slurms_memory() -> None:
    assert [megabytes(text) for text in ("512", "512M", "2G", "1T")] == [512, 512, 2048, 1048576]


def test_a_chain_that_the_controller_cannot_hold_is_refused_with_the_most_tasks(
    cluster_of_texts: Path,
) -> None:
    (cluster_of_texts / "config").write_text("MaxJobCount = 50\n")
    refuse_array(49, beside=0)
    with pytest.raises(RequestError, match=r"--tasks 50: .*MaxJobCount.* use --tasks 49"):
        refuse_array(50, beside=0)
    refuse_array(46, beside=3)
    with pytest.raises(RequestError, match=r"--tasks 47 and 3 jobs beside.* use --tasks 46"):
        refuse_array(47, beside=3)

"""Cluster files: what they mean, and that a typo is found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelmill.cluster.settings import STAGES, ClusterSettings, load_cluster
from reelmill.errors import RequestError

EXAMPLES = Path(__file__).parents[2] / "configs" / "cluster"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid_for_every_stage(path: Path) -> None:
    for stage in STAGES:
        assert isinstance(load_cluster(path, stage), ClusterSettings)


def test_a_stage_changes_what_all_share(tmp_path: Path) -> None:
    path = write(tmp_path, "partition: gpu\ntime: 10\ngenerate: {time: 20}\n")
    assert (load_cluster(path, "train").time, load_cluster(path, "generate").time) == (10, 20)
    assert load_cluster(path, "generate").partition == "gpu"
    assert load_cluster(path, "generate", ["cluster.time=30"]).time == 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitoin: gpu", "did you mean 'partition'"),
        ("train: {ndoes: 2}", "did you mean 'nodes'"),
        ("collect: {time: soon}", "time"),
        ("nodes: 0", "nodes should be greater than or equal to 1, not 0"),
        ("{gpus_per_node: 4, tasks_per_node: 1}", "tasks_per_node should be 4"),
        ("memory: lots", "for example 64G"),
        ("{time: 1, warning: 60}", "shorter than time = 1"),
        ("extra: ['#SBATCH --foo']", "expected --option"),
        ("train: 7", "train = 7: expected keys"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        load_cluster(path, "generate")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_an_override_must_be_the_clusters(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"expected cluster\.key=value"):
        load_cluster(write(tmp_path, ""), "train", ["nodes=2"])


def write(directory: Path, text: str) -> Path:
    path = directory / "cluster.yaml"
    path.write_text(text)
    return path

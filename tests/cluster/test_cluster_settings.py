"""Cluster files: what they mean, and that a typo is found by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
    ("text", "minutes"), [("90", 90), ("4:00:00", 240), ("1-0", 1440), ("1-2:30", 1590), ("90:30", 91)]
)
def test_a_time_may_be_spelled_as_slurm_does(tmp_path: Path, text: str, minutes: int) -> None:
    path = write(tmp_path, f"time: {text}\n")
    assert load_cluster(path, "train").time == minutes
    assert load_cluster(path, "train", [f"cluster.time={text}"]).time == minutes


def test_a_key_left_empty_has_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, "gpu_type:\ntime:\ngenerate:\n  partition:\ncollect:\n")
    for stage in STAGES:
        assert load_cluster(path, stage) == ClusterSettings()


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
        ("trian: {nodes: 2}", "unknown key 'trian'; did you mean 'train'?"),
        ("generat: {nodes: 2}", "did you mean 'generate'?"),
        ("pass_environment: [COMET_API_KEY]", "'COMET_API_KEY' looks like a secret"),
        ("pass_environment: [HF_TOKEN]", "comet login"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        load_cluster(path, "generate")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--time=99999", "set time"),
        ("--time 99999", "set time"),
        ("-p x", "expected --option"),
        ("--ntasks-per-node=3", "set tasks_per_node"),
        ("--gres=gpu:8", "set gpus_per_node"),
        ("--mem-per-cpu=8G", "set memory"),
        ("--array=0-9999", "with --tasks"),
        ("--export=ALL", "set pass_environment"),
        ("--signal=B:KILL", "set warning"),
        ("--no-requeue", "set by reelmill itself"),
        ("--comment a b", "expected --comment=value"),
    ],
)
def test_an_option_with_a_key_of_its_own_is_refused_with_the_key(
    tmp_path: Path, option: str, said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        load_cluster(write(tmp_path, yaml.safe_dump({"generate": {"extra": [option]}})), "train")
    assert repr(option) in str(caught.value)
    assert said in str(caught.value)


def test_other_options_are_taken(tmp_path: Path) -> None:
    extra = ["--constraint=nvlink", "--exclusive", "--mail-type=FAIL", "--reservation=me", "--gres=tmp:20G"]
    extra += ["--gres-flags=enforce-binding", "--nodelist=n1", "--mem-bind=local", "--begin=now+1hour"]
    path = write(tmp_path, yaml.safe_dump({"extra": extra, "pass_environment": ["NCCL_DEBUG"]}))
    assert load_cluster(path, "train").extra == extra


def test_an_override_must_be_the_clusters(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"expected cluster\.key=value"):
        load_cluster(write(tmp_path, ""), "train", ["nodes=2"])


def write(directory: Path, text: str) -> Path:
    path = directory / "cluster.yaml"
    path.write_text(text)
    return path

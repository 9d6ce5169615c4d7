"""A QOS's limits, as sacctmgr prints them, are refused before submission with the most that they allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelmill.cluster.doctor import request
from reelmill.cluster.limits import refuse_array, refuse_impossible
from reelmill.cluster.qos import in_force, over_limits, parse_qos
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import RequestError

# What Slurm 22.05 printed for: sacctmgr add qos small MaxWall=10 MaxTRESPU=gres/gpu=2,cpu=8,node=1 …
PRINTED = """\
normal||||||
small||00:10:00|5|cpu=4|cpu=8,gres/gpu=2,node=1,mem=8G|
long|DenyOnLimit,OverPartQOS|7-00:00:00||||
open||1-00:00:00|100|||cpu=64
"""
KNOWN = parse_qos(PRINTED)
GPUS = ClusterSettings(qos="small", time=10, tasks_per_node=2, gpus_per_node=2)


@pytest.mark.parametrize(
    ("settings", "jobs", "said"),
    [
        (
            ClusterSettings(qos="small", time=11),
            1,
            "cluster.time = 11 minutes: QOS 'small' allows at most 10",
        ),
        (ClusterSettings(qos="small", time=10), 6, "6 jobs: QOS 'small' takes at most 5"),
        (ClusterSettings(qos="small", time=10, cpus_per_task=5), 1, "at most 4 CPUs (MaxTRES cpu)"),
        (ClusterSettings(qos="small", time=10, nodes=2), 1, "cluster.nodes = 2"),
        (ClusterSettings(qos="small", time=10, memory="9G"), 1, "at most 8192M"),
        (ClusterSettings(qos="small", time=10, tasks_per_node=4, gpus_per_node=4), 1, "at most 2 GPUs"),
    ],
)
def test_what_is_over_a_limit_is_named(settings: ClusterSettings, jobs: int, said: str) -> None:
    (problem,) = over_limits(settings, jobs, KNOWN["small"].limits)
    assert said in problem


def test_what_is_within_the_limits_is_not_refused() -> None:
    assert over_limits(GPUS, 5, KNOWN["small"].limits) == []
    assert over_limits(ClusterSettings(time=10**6), 10**6, KNOWN["normal"].limits) == []


def test_the_partitions_limit_goes_before_the_jobs_unless_its_flag_says_otherwise() -> None:
    assert in_force(KNOWN["small"], KNOWN["open"])["MaxWall"] == 24 * 60
    assert in_force(KNOWN["small"], KNOWN["open"])["MaxTRES cpu"] == 4
    assert in_force(KNOWN["long"], KNOWN["open"])["MaxWall"] == 7 * 24 * 60
    assert in_force(None, KNOWN["open"])["MaxSubmitPU"] == 100


@pytest.mark.parametrize(
    ("enforced", "changes", "of_partition", "said"),
    [
        ("associations,limits,qos", {"qos": "smal"}, "N/A", "no such QOS; did you mean 'small'?"),
        ("associations,limits,qos", {"qos": "small"}, "N/A", "at most 10"),
        ("associations,limits,qos", {"qos": "small"}, "open", ""),
        ("associations,qos", {"qos": "small"}, "N/A", ""),
        ("none", {"qos": "smal"}, "N/A", ""),
        ("associations,limits,qos", {"time": 2000}, "open", "the partition's QOS allows at most 1440"),
    ],
)
def test_a_request_is_refused_where_slurm_enforces_limits(
    cluster_of_texts: Path,
    tmp_path: Path,
    enforced: str,
    changes: dict[str, object],
    of_partition: str,
    said: str,
) -> None:
    (cluster_of_texts / "config").write_text(f"AccountingStorageEnforce = {enforced}\nMaxJobCount = 50\n")
    (cluster_of_texts / "qos").write_text(PRINTED)
    partition = cluster_of_texts / "partition"
    partition.write_text(partition.read_text().replace("QoS=N/A", f"QoS={of_partition}"))
    settings = ClusterSettings(**changes)  # type: ignore[arg-type]
    if not said:
        refuse_impossible(settings, tmp_path)
        return
    with pytest.raises(RequestError, match=said.replace("?", r"\?")):
        refuse_impossible(settings, tmp_path)


def test_an_array_of_more_tasks_than_the_qos_takes_is_refused(cluster_of_texts: Path, tmp_path: Path) -> None:
    (cluster_of_texts / "config").write_text("AccountingStorageEnforce = limits\n")
    (cluster_of_texts / "qos").write_text(PRINTED)
    settings = ClusterSettings(qos="small", time=10)
    refuse_impossible(settings, tmp_path, jobs=5)
    with pytest.raises(RequestError, match="6 jobs: QOS 'small' takes at most 5"):
        refuse_impossible(settings, tmp_path, jobs=6)


def test_the_doctor_finds_it_too(cluster_of_texts: Path) -> None:
    (cluster_of_texts / "config").write_text("AccountingStorageEnforce = limits\n")
    (cluster_of_texts / "qos").write_text(PRINTED)
    (finding,) = request("collect", ClusterSettings(qos="small", time=60))
    assert (finding.check, finding.state) == ("collect request", "wrong")
    assert "at most 10" in finding.fix


def test_accounting_that_does_not_answer_refuses_nothing(cluster_of_texts: Path, tmp_path: Path) -> None:
    (cluster_of_texts / "config").write_text("AccountingStorageEnforce = limits\n")
    refuse_impossible(ClusterSettings(qos="small", time=60), tmp_path)


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

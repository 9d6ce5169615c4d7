"""A directory that nodes do not see is refused, with the disks that they share."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cluster.preflight.disks import Disks, disk_problem, mounts
from reelmill.cluster.preflight.limits import refuse_impossible
from reelmill.cluster.settings import ClusterSettings
from reelmill.errors import RequestError

MOUNTED = [
    ("/", "ext4"), ("/scratch", "autofs"), ("/scratch", "nfs4"), ("/scratch/fast", "tmpfs"),
    ("/tmp/all", "nfs4"), ("/data", "xfs"), ("/data/fast", "xfs"), ("/new", "fuse.newfs"),
]  # fmt: skip


def problem(place: str | Path, *shared: str, hosts: tuple[str, ...] = ("n1",)) -> str:
    return disk_problem(Path(place), shared, Disks(MOUNTED, set(hosts)))


@pytest.mark.parametrize("place", ["/scratch/runs/a", "/tmp/all/a"])
def test_a_shared_disk_is_not_refused(place: str) -> None:
    assert problem(place) == ""


@pytest.mark.parametrize(
    ("place", "why", "key"),
    [
        ("/scratch/fast/a", "on tmpfs (mounted at /scratch/fast)", "[/scratch/fast]"),
        ("/tmp/runs", "in /tmp", "[/tmp]"),
        ("/home/ada/runs/a", "on ext4 (mounted at /), a disk of this machine", "[/home]"),
        ("/data/runs", "on xfs (mounted at /data)", "[/data]"),
    ],
)
def test_what_only_this_machine_has_is_refused_with_what_would_be_right(
    place: str, why: str, key: str
) -> None:
    said = problem(place)
    for words in (f"{place}: ", why, "/scratch (nfs4)", f"shared_disks: {key}", f"--place {place}`"):
        assert words in said


def test_without_a_shared_disk_it_is_said_that_there_is_none() -> None:
    said = disk_problem(Path("/home/ada"), (), Disks([("/", "ext4")], {"n1"}))
    assert "none was found here" in said


@pytest.mark.parametrize("shared", ["/home", "/home/ada/", "/home/ada/runs/a"])
def test_the_cluster_file_may_say_that_nodes_see_it(shared: str) -> None:
    assert problem("/home/ada/runs/a", "/projects", shared) == ""


def test_a_neighbour_of_a_listed_disk_is_refused_and_the_listed_one_named() -> None:
    assert "/home/ada (in shared_disks)" in problem("/home/adam/runs", "/home/ada")


def test_an_unknown_file_system_is_let_pass() -> None:
    assert problem("/new/runs") == ""


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("/scratch/fast")
    assert "on tmpfs" in problem(tmp_path / "runs" / "a")


def test_nodes_that_are_this_machine_see_everything() -> None:
    here = (socket.gethostname(), f"{socket.gethostname()}.example.org")
    for place in ("/tmp/runs", "/scratch/fast/a", "/home/ada/runs/a"):
        assert problem(place, hosts=here) == ""
        assert problem(place, hosts=(*here, "n1"))


def test_a_run_on_a_disk_of_this_machine_is_refused_before_submission(cluster_of_texts: Path) -> None:
    place = Path("/dev/shm/runs/a")
    refuse_impossible(ClusterSettings(), place)  # its only node is this machine
    (cluster_of_texts / "node").write_text("NodeName=n1 NodeHostName=elsewhere\n")
    with pytest.raises(RequestError, match=r"lies in /dev/shm.*shared_disks: \[/dev/shm\]"):
        refuse_impossible(ClusterSettings(), place)
    refuse_impossible(ClusterSettings(shared_disks=["/dev/shm"]), place)


def test_what_is_mounted_here() -> None:
    assert ("/proc", "proc") in mounts()


def test_a_name_with_a_space_is_read_as_it_is(tmp_path: Path, can_mount: None) -> None:
    place = tmp_path / "two words"
    place.mkdir()
    mount_and_look = 'mount -t tmpfs none "$0" && exec "$1" -c "$2"'
    look = "from reelmill.cluster.preflight.disks import mounts; print(mounts()[-1])"
    command = ["unshare", "--mount", "sh", "-c", mount_and_look, str(place), sys.executable, look]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str((str(place), "tmpfs"))

"""A directory that nodes do not see is refused, with the disks that they may see."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cluster.disks import disk_doubt, disk_problems, mounts, warn_of_doubt

MOUNTED = [
    ("/", "ext4"), ("/scratch", "autofs"), ("/scratch", "nfs4"), ("/scratch/fast", "tmpfs"),
    ("/tmp/all", "nfs4"),
]  # fmt: skip


def problem(place: str | Path) -> str:
    return "".join(disk_problems(Path(place), {"n1"}, MOUNTED))


def test_a_shared_disk_is_neither_refused_nor_doubted() -> None:
    for place in ("/scratch/runs/a", "/tmp/all/a"):
        assert problem(place) == disk_doubt(Path(place), {"n1"}, MOUNTED) == ""


@pytest.mark.parametrize(("place", "why"), [("/scratch/fast/a", "on tmpfs"), ("/tmp/runs", "in /tmp")])
def test_what_only_this_machine_has_is_refused_with_what_may_be_shared(place: str, why: str) -> None:
    assert why in problem(place)
    assert "/scratch (nfs4)" in problem(place)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("/scratch/fast")
    assert "on tmpfs" in problem(tmp_path / "runs" / "a")


def test_a_disk_of_this_machine_may_be_exported_so_it_is_only_doubted() -> None:
    assert problem("/home/ada/runs/a") == ""
    doubt = disk_doubt(Path("/home/ada/runs/a"), {"n1"}, MOUNTED)
    for words in ("ext4", "/scratch (nfs4)", "reelmill doctor --cluster FILE --place /home/ada/runs"):
        assert words in doubt


def test_a_doubt_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        warn_of_doubt(Path("/home/ada/runs/b"), {"n1"}, MOUNTED)
    assert [record.getMessage()[:16] for record in caplog.records] == ["/home/ada/runs/b"]


def test_nodes_that_are_this_machine_see_everything() -> None:
    here = {socket.gethostname(), f"{socket.gethostname()}.example.org"}
    for place in ("/tmp/runs", "/scratch/fast/a", "/home/ada/runs/a"):
        assert disk_problems(Path(place), here, MOUNTED) == []
        assert disk_doubt(Path(place), here, MOUNTED) == ""


def test_what_is_mounted_here() -> None:
    assert ("/proc", "proc") in mounts()


def test_a_name_with_a_space_is_read_as_it_is(tmp_path: Path, can_mount: None) -> None:
    place = tmp_path / "two words"
    place.mkdir()
    mount_and_look = 'mount -t tmpfs none "$0" && exec "$1" -c "$2"'
    look = "from reelmill.cluster.disks import mounts; print(mounts()[-1])"
    command = ["unshare", "--mount", "sh", "-c", mount_and_look, str(place), sys.executable, look]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str((str(place), "tmpfs"))

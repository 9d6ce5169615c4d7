"""What of the machine a process may use."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from reelmill.resources import memory

GB = 1 << 30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 16 GB available."""
    monkeypatch.delenv("REELMILL_MEMORY", raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GB))
    return tmp_path


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_it_is_what_the_machine_has_available(root: Path) -> None:
    assert memory(root) == 16 * GB


def test_here_it_is_some() -> None:
    assert 0 < memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("outer", ["max", 3 * GB])
def test_control_groups_of_version_2(root: Path, outer: int | str) -> None:
    """The page cache of 1 GB counts as free."""
    write(root / "proc/self/cgroup", "0::/slurm/job_7")
    groups = root / "sys/fs/cgroup/slurm"
    write(groups / "memory.max", outer)
    write(groups / "memory.current", 2 * GB)
    write(groups / "job_7/memory.max", 6 * GB)
    write(groups / "job_7/memory.current", 2 * GB)
    write(groups / "job_7/memory.stat", f"anon 5\ninactive_file {GB}")
    assert memory(root) == (5 * GB if outer == "max" else GB)


def test_control_groups_of_version_1(root: Path) -> None:
    write(root / "proc/self/cgroup", "5:cpu,cpuacct:/jobs/7\n4:memory:/jobs/7\n0::/")
    group = root / "sys/fs/cgroup/memory/jobs/7"
    write(group / "memory.limit_in_bytes", 4 * GB)
    write(group / "memory.usage_in_bytes", 3 * GB)
    write(group / "memory.stat", f"inactive_file 7\ntotal_inactive_file {GB}")
    assert memory(root) == 2 * GB


def test_groups_over_their_limit_leave_nothing(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/job")
    write(root / "sys/fs/cgroup/job/memory.max", GB)
    write(root / "sys/fs/cgroup/job/memory.current", 2 * GB)
    assert memory(root) == 0


@pytest.mark.parametrize(("share", "left"), [(3 * GB, 3 * GB), (20 * GB, 16 * GB), ("", 16 * GB)])
def test_a_share_of_the_machine(
    root: Path, monkeypatch: pytest.MonkeyPatch, share: object, left: int
) -> None:
    monkeypatch.setenv("REELMILL_MEMORY", str(share))
    assert memory(root) == left

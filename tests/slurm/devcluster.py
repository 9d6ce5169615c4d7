"""The dev cluster as a test sees it: Slurm's answers, waiting, losing a node."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "slurm" / "devcluster"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")


@dataclass(frozen=True)
class DevCluster:
    """The cluster under test. All its nodes are this host."""

    directory: Path

    def node(self, action: str, name: str) -> None:
        """``lose`` a node as if its power failed, or ``start`` it again."""
        script("node.sh", self.directory, action, name)

    def slurm(self, *command: str) -> str:
        """What a Slurm command prints."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def states(self, job: str) -> list[str]:
        """The states of a job's elements that are in the queue; none once it has ended."""
        listed = self.slurm("squeue", "-h", "-r", "-o", "%A %F %T").splitlines()
        return [state for own, array, state in map(str.split, listed) if job in (own, array)]

    def wait_for_end(self, job: str, seconds: float = 300) -> str:
        """Wait until a job has left the queue; how it ended."""
        wait_until(lambda: not self.states(job), f"the end of job {job}", seconds)
        # Accounting hears of it a little later.
        wait_until(
            lambda: self._fate(job) not in ("PENDING", "RUNNING", "REQUEUED"), f"the fate of job {job}"
        )
        return self._fate(job)

    def _fate(self, job: str) -> str:
        return (self.slurm("sacct", "-X", "-n", "-P", "-j", job, "-o", "State").split() or ["PENDING"])[0]


@contextmanager
def brought_up(**settings: str) -> Iterator[DevCluster]:
    """A dev cluster on ports and in a directory of its own, with further REELMILL_DEVCLUSTER ``settings``."""
    directory = Path(f"/tmp/reelmill-test-slurm-{secrets.token_hex(4)}")  # a socket's path is limited
    before = dict(os.environ)
    os.environ.update(
        REELMILL_DEVCLUSTER_PORT=str(free_ports(15)),
        REELMILL_DEVCLUSTER_DEFAULT="0",
        SLURM_CONF=str(directory / "slurm.conf"),
        **{f"REELMILL_DEVCLUSTER_{name}": value for name, value in settings.items()},
    )
    try:
        script("up.sh", directory)
        yield DevCluster(directory)
    finally:
        script("down.sh", directory)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(directory, ignore_errors=True)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} seconds in vain for {what}"
        time.sleep(0.2)


def why_not() -> str:
    """Why no Slurm of our own can be brought up here; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Slurm of our own needs Linux and root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return (
            f"no Slurm here ({', '.join(missing)} missing): apt-get install -y --no-install-recommends "
            "slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core"
        )
    if subprocess.run(["unshare", "--uts", "--mount", "true"], capture_output=True, timeout=10).returncode:
        return "a Slurm of our own needs the right to make namespaces (a container with --cap-add SYS_ADMIN)"
    return ""


def script(name: str, directory: Path, *arguments: str) -> None:
    """Run one of the dev cluster's scripts."""
    with tempfile.TemporaryFile() as told:  # no pipe: the daemons inherit it and would keep it open
        done = subprocess.run(
            ["bash", str(SCRIPTS / name), *arguments],
            env={**os.environ, "REELMILL_DEVCLUSTER": str(directory)},
            stdout=told,
            stderr=told,
            timeout=300,
        )
        told.seek(0)
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{told.read().decode()}"


def free_ports(count: int) -> int:
    """The first of so many free ports; each of pytest-xdist's workers looks in a range of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = 20000 + worker % 10 * 1000
    for first in range(begin, begin + 1000, 50):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise AssertionError("no free ports")

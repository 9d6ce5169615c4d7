"""A real Slurm for these tests: the dev cluster, brought up on ports and in a directory of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from devcluster import DevCluster, free_ports, script, why_not


@pytest.fixture(scope="session")
def slurm_of_our_own() -> None:
    """Skips a test where none can be brought up, unless REQUIRE_SLURM=1 says that it can."""
    reason = why_not()
    if reason:
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"REQUIRE_SLURM=1, but {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(slurm_of_our_own: None) -> Iterator[DevCluster]:
    directory = Path(
        f"/tmp/reelmill-test-slurm-{os.getpid()}"
    )  # short: it holds a socket, whose path is limited
    before = dict(os.environ)
    os.environ.update(
        REELMILL_DEVCLUSTER_PORT=str(free_ports(15)),
        REELMILL_DEVCLUSTER_DEFAULT="0",
        REELMILL_DEVCLUSTER_MAX_ARRAY="5",  # so that six tasks are two arrays
        SLURM_CONF=str(directory / "slurm.conf"),
        OMP_NUM_THREADS="1",
    )
    try:
        script("up.sh", directory)
        yield DevCluster(directory)
    finally:
        script("down.sh", directory)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(directory, ignore_errors=True)

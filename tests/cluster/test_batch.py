"""What the batch script does by itself, in a shell of its own and without Slurm."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill import cluster

SCRIPT = Path(cluster.__file__).with_name("batch.sh")


@pytest.mark.skipif(sys.platform != "linux", reason="Slurm runs on Linux: the port check was not run")
def test_the_ranks_do_not_meet_where_something_listens() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        with socket.socket(family) as taken:
            taken.bind((address, 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert 0 < free_port(port) != port
        assert free_port(port) == port


def free_port(first: int) -> int:
    command = ["bash", "-c", f'. "$1"; reelmill_free_port {first}', "bash", str(SCRIPT)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    return int(done.stdout)

"""What the batch script does by itself, in a shell of its own and without Slurm."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reelmill import cluster

SCRIPT = Path(cluster.__file__).with_name("node") / "batch.sh"


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


@pytest.mark.parametrize(
    ("left", "seconds"),
    [("10:00", "600"), ("1:00:05", "3605"), ("2-03:04:05", "183845"), ("UNLIMITED", ""), ("0:07", "7")],
)
def test_the_time_left_is_what_slurm_says(tmp_path: Path, left: str, seconds: str) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho {left}\n")
    (tmp_path / "squeue").chmod(0o755)
    command = ["bash", "-c", '. "$1"; reelmill_seconds_left', "bash", str(SCRIPT)]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20, env=environment)
    assert done.stdout.strip() == seconds

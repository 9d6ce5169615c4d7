"""The README's way to try a cluster, command for command as it stands there, from `make slurm-up` to its end.

What differs: the recipe in ``configs/demo.yaml`` is cut to seconds of training, and the cluster lies in a
directory and on ports of its own, since one may be up in its usual place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from devcluster import free_ports, script
from recipes import ROOT

from reelmill.cluster.node.progress import newest_checkpoint
from reelmill.cluster.status.songs_status import songs_status
from reelmill.songs.check.verify import verify

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

USUAL_PLACE = "/tmp/reelmill-devcluster"
CUT = {
    "model": {"embedding_size": 16, "hidden_size": 96},
    "training": {
        "steps": 400, "batch_size": 8, "sequence_length": 60, "learning_rate": 0.02,
        "checkpoint_every": 200, "evaluate_every": 200,
    },
    "sampling": {"max_length": 400},
}  # fmt: skip


@pytest.fixture
def place(slurm_of_our_own: None) -> Iterator[Path]:
    """Where a cluster is to lie; down again after the test, however that ends."""
    directory = Path(f"/tmp/reelmill-readme-slurm-{os.getpid()}")
    yield directory
    script("down.sh", directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The root of the repository, but for its runs, its songs and the recipe."""
    for path in ("Makefile", "jobs", "slurm", "src", "pyproject.toml"):
        (tmp_path / path).symlink_to(ROOT / path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    recipe = tmp_path / "configs" / "demo.yaml"
    settings = yaml.safe_load(recipe.read_text())
    for section, changes in CUT.items():
        settings[section] |= changes
    recipe.write_text(yaml.safe_dump(settings))
    return tmp_path


def commands() -> str:
    """The block of the README that begins with `make slurm-up`."""
    chapter = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On a Slurm cluster")[2]
    block = re.search(r"^    make slurm-up .*\n(?:    .*\n)+", chapter, re.MULTILINE)
    assert block is not None
    return re.sub(r"^    ", "", block[0], flags=re.MULTILINE)


def test_the_cluster_chapter_runs_as_written(place: Path, checkout: Path) -> None:
    told = commands()
    for command in ("make slurm-up", "doctor", "jobs.train", "jobs.generate", "--watch", "make slurm-down"):
        assert command in told
    environment = {
        **os.environ,
        "REELMILL_DEVCLUSTER": str(place),
        "REELMILL_DEVCLUSTER_PORT": str(free_ports(15)),
        "REELMILL_DEVCLUSTER_DEFAULT": "0",
    }
    printed = checkout / "printed.txt"
    with printed.open("w") as file:  # no pipe: the daemons inherit it and would keep it open
        script_of_the_reader = ["bash", "-euxo", "pipefail", "-c", told.replace(USUAL_PLACE, str(place))]
        done = subprocess.run(
            script_of_the_reader, cwd=checkout, env=environment, stdout=file, stderr=file, timeout=560
        )
    assert done.returncode == 0, printed.read_text()
    assert f"down; logs are in {place}/log" in printed.read_text()
    run, songs = checkout / "runs" / "try", checkout / "songs" / "try"
    assert newest_checkpoint(run) == CUT["training"]["steps"]
    seen = songs_status(songs)
    assert verify(songs).intact and (seen.planned, seen.shards, seen.audio_shards) == (64, 4, 4)
    assert seen.songs > 32 and not seen.silent  # a model of seconds may fail an id in all its attempts
    for name in ("index.parquet", "summary.json", "README.md", "report.html"):
        assert (songs / name).stat().st_size

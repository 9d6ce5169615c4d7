"""The code that runs is the code that was there at submission."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reelmill.cluster.snapshot import running_sources, snapshot_path, take_snapshot


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "source" / "reelmill"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("ANSWER = 1\n")
    return root


def test_a_snapshot_stays_as_it_was(package: Path, tmp_path: Path) -> None:
    taken = take_snapshot(tmp_path / "code", [package])
    (package / "__init__.py").write_text("ANSWER = 2\n")
    (package / "later.py").write_text("")
    assert (taken / "reelmill" / "__init__.py").read_text() == "ANSWER = 1\n"
    again = take_snapshot(tmp_path / "code", [package])
    assert again != taken
    assert (again / "reelmill" / "later.py").exists()


def test_the_same_code_is_kept_once(package: Path, tmp_path: Path) -> None:
    taken = take_snapshot(tmp_path / "code", [package])
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_text("")
    assert snapshot_path(tmp_path / "code", [package]) == taken
    assert take_snapshot(tmp_path / "code", [package]) == taken
    assert len(list((tmp_path / "code").iterdir())) == 1


def test_it_comes_ahead_of_the_installed_package(tmp_path: Path) -> None:
    taken = take_snapshot(tmp_path / "code")
    assert {root.name for root in running_sources()} == {"reelmill", "jobs"}
    done = subprocess.run(
        [sys.executable, "-c", "import reelmill, jobs.train; print(reelmill.__file__, jobs.train.__file__)"],
        env={"PYTHONPATH": str(taken), "PYTHONSAFEPATH": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert all(path.startswith(str(taken)) for path in done.stdout.split())

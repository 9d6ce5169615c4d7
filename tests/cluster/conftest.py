from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Answers = Callable[..., None]


@pytest.fixture
def slurm_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Sets what squeue and sacct print, for states that a real Slurm is hard to hold in."""

    def answer(squeue: str = "", sacct: str = "") -> None:
        place = tmp_path / "slurm-commands"
        place.mkdir(exist_ok=True)
        for name, printed in (("squeue", squeue), ("sacct", sacct), ("sbatch", "")):
            (place / name).write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{printed}END\n")
            (place / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(place))

    return answer


@pytest.fixture
def can_mount() -> None:
    """Skips a test where this process may not mount anything, not even in a namespace of its own."""
    try:
        subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=10, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount (root)")


@pytest.fixture
def cluster_of_texts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands answer with the texts in this directory, and fail where there is none.

    It begins as a cluster of one node, this machine, in one partition ``main``.
    """
    texts = tmp_path_factory.mktemp("texts")
    (texts / "config").write_text("")
    (texts / "node").write_text(f"NodeName=n1 NodeHostName={socket.gethostname()}\n")
    (texts / "nodes").write_text("main*|up|infinite|64|256000|gpu:8\n")
    programs = {"scontrol": '"$2"', "sinfo": "nodes"}  # which word names the text
    for name, text in programs.items():
        (texts / name).write_text(f"#!/bin/sh\nexec cat {texts}/{text}\n")
        (texts / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{texts}:/usr/bin:/bin")
    return texts

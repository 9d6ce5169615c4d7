"""What may go from a run or songs directory goes; what somebody alive may need never does."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.cluster.snapshot import take_snapshot
from reelmill.cluster.status.cleaning import find_leftovers, remove
from reelmill.cluster.submission import code_directory
from reelmill.errors import RequestError
from reelmill.runs import newest_intact
from reelmill.songs.store.leases import Leases, read_leases
from reelmill.training.checkpoints import clean_temporaries

Alive = Callable[[str], subprocess.Popen[str]]
HOUR = 3600.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with damaged checkpoints set aside, and a copy of the code that a kill left half made."""
    run = tmp_path / "run"
    for step in (10, 20):
        with durable.creating_directory(run / "checkpoints" / f"step-{step:06d}") as partial:
            (partial / "model.safetensors").write_bytes(b"0" * 1000)
    (run / "config.yaml").write_text("{}\n")
    (run / "checkpoints" / "step-000020" / "model.safetensors").write_bytes(b"0" * 999)
    assert newest_intact(run, set_aside=True) is None  # neither holds all that a checkpoint has
    (run / "logs" / "code").mkdir(parents=True)
    half = durable.temporary(run / "logs" / "code" / "0123456789ab")
    half.mkdir()
    (half / "train.py").write_bytes(b"0" * 500)
    for path in (half / "train.py", half):
        os.utime(path, (1, 1))
    return run


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    songs = tmp_path / "songs"
    for half in ("text", "audio", "leases"):
        (songs / half).mkdir(parents=True)
    (songs / "plan.json").write_text("{}")
    durable.temporary(songs / "text" / "shard-000003.tar").write_bytes(b"0" * 700)
    return songs


@pytest.fixture
def alive() -> Iterator[Alive]:
    """Starts Python that says "ready" and then lives on."""
    processes: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        program = f"import pathlib, time\n{body}\n    print('ready', flush=True); time.sleep(600)"
        processes.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout and processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def taking(songs: Path, shard: int) -> str:
    """Python that takes a lease."""
    place = f"pathlib.Path({str(songs)!r})"
    body = f"with Leases({place}, '0/1') as l:\n    l.take({shard})"
    return f"from reelmill.songs.store.leases import Leases\n{body}"


def kinds(directory: Path, now: float | None = None) -> list[str]:
    return sorted(item.kind for item in find_leftovers(directory, now).found)


def test_what_kills_and_damage_left_in_a_run_goes(run: Path) -> None:
    left = find_leftovers(run)
    assert sorted((item.kind, item.bytes > 0) for item in left.found) == [
        ("damaged", True), ("damaged", True), ("temporary", True),
    ]  # fmt: skip
    assert {item.bytes for item in left.found if item.kind == "temporary"} == {500}
    assert remove(left) == []
    assert kinds(run) == []
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "logs"]


def test_good_checkpoints_stay(run: Path) -> None:
    with durable.creating_directory(run / "checkpoints" / "step-000040") as partial:
        (partial / "model.safetensors").write_bytes(b"0" * 1000)
    before = durable.sha256(run / "checkpoints" / "step-000040" / "manifest.json")
    remove(find_leftovers(run))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000040"]
    assert durable.sha256(run / "checkpoints" / "step-000040" / "manifest.json") == before


def test_what_the_next_training_removes_is_left_to_it(run: Path) -> None:
    durable.temporary(run / "checkpoints" / "step-000030").mkdir()
    remove(find_leftovers(run))
    assert kinds(run, time.time() + HOUR) == []
    clean_temporaries(run)
    assert list((run / "checkpoints").iterdir()) == []


def test_a_living_worker_keeps_its_lease_and_its_temporaries(songs: Path, alive: Alive) -> None:
    worker, killed = alive(taking(songs, 3)), alive(taking(songs, 4))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = find_leftovers(songs, time.time() + HOUR)
    assert [(item.kind, Path(item.path).name) for item in left.found] == [("lease", "shard-000004.json")]
    assert "shards 3" in left.describe()
    remove(left)
    assert [(lease.shard, lease.live) for lease in read_leases(songs)] == [(3, True)]
    worker.kill()
    worker.wait()
    later = time.time() + HOUR
    assert kinds(songs, later) == ["lease", "temporary"]
    assert remove(find_leftovers(songs, later), later) == []
    assert kinds(songs, later) == []


def test_a_lease_that_was_taken_over_since_stays(songs: Path, alive: Alive) -> None:
    first = alive(taking(songs, 4))
    first.kill()
    first.wait()
    left = find_leftovers(songs)
    with Leases(songs, "1/2") as leases:
        assert leases.take(4)
        remove(left)
        assert [lease.live for lease in read_leases(songs)] == [True]


def test_what_no_lease_speaks_for_has_to_be_old(songs: Path) -> None:
    for path in (songs / "text").iterdir():
        path.unlink()
    durable.temporary(songs / "index.parquet").write_bytes(b"half")
    assert kinds(songs) == []
    assert "10 minutes" in find_leftovers(songs).describe()
    assert kinds(songs, time.time() + HOUR) == ["temporary"]


def test_code_goes_once_no_job_in_the_queue_needs_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source" / "reelmill"
    source.mkdir(parents=True)
    codes = []
    for version in range(3):
        (source / "__init__.py").write_text(f"VERSION = {version}\n")
        codes.append(take_snapshot(code_directory(run), [source]))
    for job, code in zip(("41", "42"), codes, strict=False):
        submitted(run, job, code)
    queue_holds(monkeypatch, tmp_path, "42|PENDING|Priority||0:00|1:00:00||")
    assert code_names(run) == []  # all are new
    later = time.time() + HOUR
    assert code_names(run, later) == sorted([codes[0].name, codes[2].name])
    assert take_snapshot(code_directory(run), [source]) == codes[2]  # a submission that is not queued yet
    os.utime(codes[0], (1, 1))
    assert code_names(run) == [codes[0].name]
    submitted(run, "43", None)
    queue_holds(monkeypatch, tmp_path, "43|RUNNING|None|n1|0:10|1:00:00||")
    assert code_names(run, later) == []  # it does not say which it needs
    queue_holds(monkeypatch, tmp_path, "")
    left = find_leftovers(run)
    assert len(code_names(run, later)) == 3
    assert len(left.found) > len([item for item in left.found if item.kind == "code"]) == 1
    os.utime(codes[0])  # a submission comes for it while a person thinks
    assert remove(left) == []
    assert codes[0].is_dir()
    assert remove(find_leftovers(run, later), later) == []
    assert list(code_directory(run).iterdir()) == []


def test_code_stays_where_slurm_cannot_be_asked(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(run, "41", take_snapshot(code_directory(run)))
    monkeypatch.setenv("PATH", "/nowhere")
    left = find_leftovers(run, time.time() + HOUR)
    assert "code" not in {item.kind for item in left.found}
    assert "squeue" in left.describe()


def submitted(run: Path, job: str, code: Path | None) -> None:
    folder = run / "logs" / "submissions" / f"train-{job}"
    folder.mkdir(parents=True)
    facts = {"stage": "train", "time": 1.0, "jobs": [job], "tasks": 1}
    durable.write_json(folder / "submission.json", {**facts, "code": str(code)} if code else facts)


def queue_holds(monkeypatch: pytest.MonkeyPatch, place: Path, lines: str) -> None:
    """A squeue that prints ``lines``: whether it does so rightly is for the tests with a real Slurm."""
    programs = place / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "squeue").write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n" if lines else "#!/bin/sh\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def code_names(run: Path, now: float | None = None) -> list[str]:
    return sorted(Path(item.path).name for item in find_leftovers(run, now).found if item.kind == "code")


def test_another_directory_is_refused(tmp_path: Path) -> None:
    durable.temporary(tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(RequestError, match="neither a run nor a songs directory"):
        find_leftovers(tmp_path)


def clean(*arguments: object, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reelmill", "clean", *map(str, arguments)]
    return subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=120)


def test_where_nobody_can_be_asked_it_only_lists(run: Path) -> None:
    done = clean(run)
    assert (done.returncode, "--yes" in done.stderr) == (1, True)
    assert "3 to remove" in done.stdout
    told = json.loads(clean(run, "--json").stdout)
    assert (told["removed"], len(told["leftovers"])) == (False, 3)
    assert len(kinds(run)) == 3


def test_yes_removes_and_says_what(run: Path) -> None:
    done = clean(run, "--yes", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["removed"], told["problems"]) == (0, True, [])
    assert told["bytes"] == sum(item["bytes"] for item in told["leftovers"]) > 500
    assert clean(run).returncode == 0


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"\n", 1, 3)])
def test_it_asks_at_a_terminal(run: Path, answer: bytes, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    done = clean(run, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert "Remove all of this?" in done.stderr
    assert (done.returncode, len(kinds(run))) == (code, left)

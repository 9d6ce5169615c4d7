"""Several workers of one command, each in a process of its own: the same songs, whatever becomes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reelmill import config as configuration
from reelmill import resources
from reelmill.errors import IncompleteError, RequestError
from reelmill.songs.check.verify import verify
from reelmill.songs.make import launch
from reelmill.songs.make.generate import generate
from reelmill.songs.make.launch import Made, Role, Workers, plan_roles
from reelmill.songs.make.progress import Progress
from reelmill.songs.make.render import render_directory
from reelmill.songs.store.leases import read_leases
from reelmill.songs.store.manifest import KINDS
from reelmill.songs.store.plan import read_plan
from tests.songs.conftest import SONGS, manifests, tars

THREE = ["songs.workers=3"]


def makers(directory: Path) -> set[int]:
    """Numbers of the processes that made the shards."""
    return {json.loads(path.read_text())["made_by"]["pid"] for path in directory.glob("[at]*/shard-*.json")}


def worker_processes(parent: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "--parent", str(parent), "--full", launch.MODULE], capture_output=True, text=True
    )
    return [int(number) for number in found.stdout.split()]


def running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_they_make_what_one_makes(run: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs"
    outcome = generate(run, out, songs=SONGS, overrides=THREE, progress=False)
    assert outcome.complete and outcome.made == list(range(8)) and outcome.songs == SONGS
    assert makers(out) and os.getpid() not in makers(out)
    assert tars(out) == tars(reference) and manifests(out) == manifests(reference)
    assert verify(out).intact and not read_leases(out)


def test_they_render_what_has_text(songs: Path, reference: Path) -> None:
    for path in songs.glob("audio/shard-*"):
        path.unlink()
    assert render_directory(songs, THREE, progress=False).complete
    assert tars(songs) == tars(reference)


def test_some_make_text_and_others_add_its_sound(songs: Path, reference: Path) -> None:
    """As on a node with a GPU: sound follows the text, however far ahead that is."""
    for kind in KINDS:
        for path in (songs / kind).iterdir():
            path.unlink()
    plan = read_plan(songs)
    roles = [
        Role(halves=("text",), part=(0, 1)),
        Role(halves=("audio",), part=(0, 2)),
        Role(halves=("audio",), part=(1, 2)),
    ]
    task = {
        "directory": str(songs),
        "config": configuration.to_dict(plan.config()),
        "share": (0, 1),
        "workers": len(roles),
    }
    with Progress(plan, SONGS, 2, visible=False) as bar:
        made = Made(bar)
        Workers(roles, task, made).run()
    assert made.shards == set(range(8)) and not made.faults
    assert tars(songs) == tars(reference) and manifests(songs) == manifests(reference)
    for number in range(8):
        halves = [json.loads((songs / kind / f"shard-{number:06d}.json").read_text()) for kind in KINDS]
        assert len({half["made_by"]["pid"] for half in halves}) == 2


def test_one_worker_a_gpu_and_the_rest_for_sound(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "8")
    monkeypatch.setattr(resources, "memory", lambda: 1 << 40)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = read_plan(reference).config()
    roles = plan_roles(config, 1000, KINDS)
    text = [role for role in roles if "text" in role.halves]
    assert text == [Role(halves=("text",), part=(gpu, 2), gpu=str(gpu)) for gpu in range(2)]
    sound = [role for role in roles if role not in text]
    assert sound == [Role(halves=("audio",), part=(part, 8)) for part in range(8)]
    assert plan_roles(config, 1000, ("text",)) == text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f")  # as Slurm gives them
    assert [role.gpu for role in plan_roles(config, 1000, ("text",))] == ["3", "GPU-8f"]


@pytest.fixture
def begun() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """``reelmill generate`` with these arguments; killed at the end, whatever becomes of the test."""
    commands: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "reelmill", "generate", *map(str, arguments)]
        commands.append(subprocess.Popen(words, **{"stderr": subprocess.DEVNULL, **options}))
        return commands[-1]

    yield begin
    for command in commands:
        command.kill()
        command.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_one_of_four_that_is_killed_costs_what_it_had_in_hand(
    run: Path,
    reference: Path,
    tmp_path: Path,
    begun: Callable[..., subprocess.Popen[bytes]],
    number: signal.Signals,
) -> None:
    out = tmp_path / "songs"
    command = begun(run, "--out", out, "--songs", SONGS, "songs.workers=4", stderr=subprocess.PIPE)
    wait_until(lambda: len(list((out / "leases").glob("shard-*.json"))) >= 1)
    lost = json.loads(next((out / "leases").glob("shard-*.json")).read_text())["pid"]
    os.kill(lost, number)
    _, said = command.communicate(timeout=120)
    assert command.returncode == 0, said.decode()
    assert f"a worker process was lost ({number.name})" in said.decode()
    assert tars(out) == tars(reference) and not read_leases(out)


@pytest.mark.slow
def test_one_that_is_stuck_is_replaced(
    run: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP, as a suspended node or a disk that does not answer."""
    monkeypatch.setattr(launch, "_SILENCE", 20.0)
    hear, stopped = Workers._hear, list[int]()

    def hear_and_stop(self: Workers, one: Any, message: dict[str, Any]) -> None:
        if not stopped:
            stopped.append(one.process.pid)
            os.kill(stopped[0], signal.SIGSTOP)
        hear(self, one, message)

    monkeypatch.setattr(Workers, "_hear", hear_and_stop)
    out = tmp_path / "songs"
    outcome = generate(run, out, songs=SONGS, overrides=THREE, progress=False)
    assert stopped and not running(stopped[0])
    assert outcome.complete and tars(out) == tars(reference)


@pytest.mark.slow
def test_nobody_has_to_read_how_far_they_are(
    run: Path, reference: Path, tmp_path: Path, begun: Callable[..., subprocess.Popen[bytes]]
) -> None:
    command = begun(run, "--out", tmp_path / "songs", "--songs", SONGS, *THREE, stderr=subprocess.PIPE)
    command.stderr.close()  # type: ignore[union-attr]
    assert command.wait(120) == 0
    assert tars(tmp_path / "songs") == tars(reference)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_the_command(
    run: Path, tmp_path: Path, begun: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    out = tmp_path / "songs"
    command = begun(run, "--out", out, "--songs", 20000, *THREE)
    wait_until(lambda: len(makers(out)) == 3)
    workers = worker_processes(command.pid)
    assert len(workers) == 3
    if number == signal.SIGINT:
        for process in (command.pid, *workers):  # a terminal sends it to all
            os.kill(process, number)
        assert command.wait(30) == 130
        assert not read_leases(out) and not list(out.glob("*/.shard-*"))
    else:
        command.kill()
        command.wait()
    wait_until(lambda: not any(map(running, workers)), 20)
    assert not read_leases(out), "they have given back what they had in hand"


def test_what_one_of_them_refuses_the_command_refuses(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here because the model's copy, which they read, is damaged after this process has read it."""
    begin = Workers.run

    def damage_and_begin(self: Workers) -> None:
        weights = tmp_path / "songs" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        begin(self)

    monkeypatch.setattr(Workers, "run", damage_and_begin)
    with pytest.raises(IncompleteError, match=r"model\.safetensors"):
        generate(run, tmp_path / "songs", songs=SONGS, overrides=THREE, progress=False)
    assert not read_leases(tmp_path / "songs")


def test_workers_that_are_lost_before_they_finish_anything_are_a_fault(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not started for ever."""
    (songs / "audio" / "shard-000002.json").unlink()
    (songs / "audio" / "shard-000003.json").unlink()
    monkeypatch.setattr(launch, "MODULE", "reelmill.nothing")  # fails at once
    outcome = generate(songs, overrides=["songs.workers=2"], progress=False)
    assert not outcome.complete
    assert outcome.faults == ["2 workers were lost before they had finished a shard (exit code 1)"] * 2


@pytest.mark.parametrize(
    ("shards", "workers"),
    [(125, 4), (75, 3), (2, 1), (0, 1)],
)
def test_how_many_there_are(
    reference: Path, monkeypatch: pytest.MonkeyPatch, shards: int, workers: int
) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "4")
    monkeypatch.setattr(resources, "memory", lambda: 1 << 40)
    for halves in (KINDS, KINDS[:1], KINDS[1:]):
        assert len(plan_roles(read_plan(reference).config(), shards, halves)) == workers


@pytest.mark.parametrize(("free", "workers"), [(0, 1), (9 << 28, 3), (12 << 28, 4), (1 << 40, 4)])
def test_there_are_no_more_than_there_is_memory_for(
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    free: int,
    workers: int,
) -> None:
    monkeypatch.setenv("REELMILL_PROCESSORS", "4")
    monkeypatch.setattr(resources, "memory", lambda: free)
    config = read_plan(reference).config()
    assert len(plan_roles(config, 250, KINDS)) == workers
    assert (f"{workers} of 4 processors get a worker" in caplog.text) == (workers < 4)
    config = replace(config, songs=replace(config.songs, workers=5))
    assert len(plan_roles(config, 250, KINDS)) == 5


def test_sampling_in_bfloat16_says_where_it_is_slow(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ["sampling.precision=bfloat16", "sampling.device=cpu"]
    generate(run, tmp_path / "songs", songs=1, audio=False, overrides=overrides, progress=False)
    emulated = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert ("is emulated by this processor" in caplog.text) == emulated


def test_a_negative_number_of_them_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"songs\.workers"):
        generate(run, tmp_path / "songs", songs=1, overrides=["songs.workers=-1"], progress=False)

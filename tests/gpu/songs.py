"""What sampling is to do on GPUs: one function a part, each of which returns its rows."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import Machine, Row, kill_all

GOAL = 0.5  # of the limit
_HERE = Path(__file__).parent


def strides(machine: Machine) -> list[Row]:
    """A stride by a graph and kernel by kernel, and its characters/s beside the limit."""
    rows = []
    for slots in (1024, 4096, 8192) if machine.on_gpu else (64,):
        wanted = {"device": machine.device, "slots": slots}
        wanted |= {"hidden": 1024, "seconds": 10} if machine.on_gpu else {"hidden": 64, "seconds": 1}
        words = [sys.executable, str(_HERE / "strides.py"), json.dumps(wanted)]
        said = json.loads(machine.output(words, f"strides-{slots}"))
        digests = dict.fromkeys((said["graph"][:12], said["eager"][:12]))
        alike = len(digests) == 1 if machine.on_gpu else None  # there is no graph on a CPU
        share = said["rate"] / said["limit"]
        rows += [
            Row(f"a graph beside kernel by kernel, {slots} slots", " ".join(digests), "one SHA-256", alike),
            Row(f"characters/s of sampling, int8, {slots} slots", f"{said['rate']:,.0f}", "", None),
            Row(
                f"its share of the product's limit, {slots} slots",
                f"{share:.3f} of {said['limit']:,.0f}",
                f"goal: {GOAL}" if machine.on_gpu else "not judged on a CPU",
                share >= GOAL if machine.on_gpu and slots == 4096 else None,
            ),
        ]
    return rows


def same(machine: Machine) -> list[Row]:
    """``generate`` makes the same songs with any slots, on a CPU, and on one GPU or all."""
    run = machine.train("sampled")
    slots = (1024, 4096, 8192) if machine.on_gpu else (32, 64, 128)
    made = {number: _songs(machine, run, f"slots-{number}", f"sampling.slots={number}") for number in slots}
    name = ", ".join(map(str, slots))
    rows = [_equal(f"songs at {name} slots", list(made.values()))]
    first = made[slots[0]]
    if machine.on_gpu:
        on_cpu = _songs(machine, run, "cpu", "sampling.device=cpu")
        rows.append(_equal("songs in int8 beside a CPU's", [first, on_cpu]))
    what = "GPUs" if machine.on_gpu else "workers"
    if machine.gpus == 1:
        return [*rows, Row("songs of all GPUs beside one's", "not run", "not judged: needs two GPUs", None)]
    with _visible("0") if machine.on_gpu else _visible(None):
        alone = _songs(machine, run, "alone", "songs.workers=1")
    several = _songs(machine, run, "several", f"songs.workers={machine.gpus}")
    return [*rows, _equal(f"songs of {machine.gpus} {what} beside one's", [alone, several])]


def busy(machine: Machine) -> list[Row]:
    """How busy the GPU is while ``generate`` makes texts."""
    if not machine.on_gpu:
        return [Row("GPU busy in generate", "not run", "not judged: needs a GPU", None)]
    run = machine.train("busy")
    asked = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "--loop-ms=200")
    watch = machine.start(["nvidia-smi", *asked], "utilization")
    try:
        _songs(machine, run, "busy-songs", songs=200_000)
    finally:
        kill_all(watch)
    seen = [int(line) for line in (machine.place / "utilization.out").read_text().split()]
    working = [value for value in seen if value > 0]  # without the start and what follows sampling
    figure = f"{statistics.mean(working):.0f} % of the time, over {len(working) / 5:.0f} s"
    return [Row("GPU busy in generate, 200,000 texts", figure, "", None)]


PARTS = (strides, same, busy)


def _songs(machine: Machine, run: Path, name: str, *settings: str, songs: int = 0) -> list[str]:
    """SHA-256 of the text shards of ``generate``."""
    out, count = machine.place / name, songs or (20_000 if machine.on_gpu else 200)
    words = ["generate", str(run), "--songs", str(count), "--out", str(out), "--no-audio"]
    always = [f"songs.songs_per_shard={count // 10}", "songs.require=none", "songs.max_attempts=1"]
    device = [] if any(each.startswith("sampling.device") for each in settings) else [machine.device]
    always += [f"sampling.device={each}" for each in device]
    if not machine.on_gpu:
        always.append("sampling.max_length=200")
    machine.output(machine.command(["-m", "reelmill", *words, *always, *settings], 1), name)
    manifests = sorted((out / "text").glob("shard-*.json"))
    return [json.loads(path.read_text())["sha256"] for path in manifests]


def _equal(name: str, songs: list[list[str]]) -> Row:
    shards = {len(one) for one in songs}
    passed = shards == {10} and all(one == songs[0] for one in songs)
    figure = f"{min(shards)} shards, {'the same' if passed else 'others'}"
    return Row(name, figure, "the same SHA-256 of each of 10 shards", passed)


@contextmanager
def _visible(gpus: str | None) -> Iterator[None]:
    """Inside, commands see these GPUs."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before

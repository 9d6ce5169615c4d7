"""What training is to do on GPUs: one function a part, each of which trains and returns its rows."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import Machine, Row, metrics, weights

# All that a resumed run has to go on with: dropout, carried state, accumulation, clipping, evaluations.
FULL = (
    "model.dropout=0.2",
    "training.accumulation=8",
    "training.steps=60",
    "training.log_every=1",
    "training.evaluate_every=20",
    "training.checkpoint_every=10",
)
TOLERANCE = 0.02  # bits per character that rounding to 8 or 11 bits may cost, or gain
ON_A_CPU = 1.6593  # bits per character of that run on a CPU (float32, one process, 47 test tunes)
SLOWER = 1.03  # of the plain script's time
SCALING = 0.9  # of the characters/s that so many GPUs would make alone
_HERE = Path(__file__).parent


def ranks(machine: Machine) -> list[Row]:
    """Every process has the same weights after every step."""
    rows = []
    for world in machine.worlds[1:]:
        notes = machine.place / f"notes-{world}"
        notes.mkdir(parents=True)
        os.environ["WEIGHTS_NOTED"] = str(notes)
        script = [str(_HERE / "digests.py")]
        machine.train(f"ranks-{world}", *FULL, processes=world, script=script)
        noted = [path.read_text().split() for path in sorted(notes.iterdir())]
        steps = sum(len(set(step)) == 1 for step in zip(*noted, strict=True))
        passed = len(noted) == world and steps == len(noted[0]) == 60
        rows.append(Row(f"weights of {world} ranks", f"equal after {steps} steps", "equal after 60", passed))
    return rows or [_too_few("weights of all ranks")]


def exact(machine: Machine) -> list[Row]:
    """With ``training.exact`` the weights are the same at every number of processes."""
    runs = {
        world: machine.train(f"exact-{world}", *FULL, "training.exact=true", processes=world)
        for world in machine.worlds
    }
    rows = [
        _equal(f"training.exact, {world} processes beside 1", [runs[1], run])
        for world, run in runs.items()
        if world > 1
    ]
    return rows or [_too_few("training.exact at every number of processes")]


def resume(machine: Machine) -> list[Row]:
    """A run that is killed and goes on ends as one that nothing has disturbed."""
    undisturbed = machine.train("undisturbed", *FULL, processes=machine.gpus)
    run = machine.place / "killed"
    words = machine.command(["-m", "reelmill", *machine.training(run, *FULL)], machine.gpus)
    for steps in (17, 38):
        machine.killed(words, "killed", lambda steps=steps: len(metrics(run)) >= steps)
    left = len(metrics(run))
    machine.output(words, "killed")
    told = _told(run)
    same = told == _told(undisturbed) and [line["step"] for line in told] == [*range(1, 61)]
    what = f"killed twice (SIGKILL) and resumed, {machine.gpus} processes"
    return [
        _equal(f"{what}: weights", [undisturbed, run]),
        Row(
            f"{what}: metrics",
            f"{len(told)} lines; {left} at the last kill",
            "steps 1 to 60, once each, as undisturbed",
            same,
        ),
    ]


def repeat(machine: Machine) -> list[Row]:
    """The same run, done again, has the same bits: cuDNN's and cuBLAS's sums, and NCCL's."""
    rows = []
    for precision in ("no", "bf16", "fp16") if machine.on_gpu else ("no",):
        for world in sorted({1, machine.gpus}):
            settings = (*FULL, f"training.precision={precision}")
            name = f"repeat-{precision}-{world}"
            runs = [machine.train(f"{name}-{turn}", *settings, processes=world) for turn in (1, 2)]
            rows.append(_equal(f"the same run twice, {precision}, {world} processes", runs))
    return rows


def precision(machine: Machine) -> list[Row]:
    """Held-out bits per character after the 300 steps of configs/demo.yaml."""
    bits = {}
    for name in ("no", "bf16", "fp16") if machine.on_gpu else ("no",):
        run = machine.train(f"bits-{name}", f"training.precision={name}")
        said = machine.output(machine.command(["-m", "reelmill", "evaluate", str(run), "--json"], 1), "bits")
        bits[name] = json.loads(said)["bits_per_char"]
    expected = {"no": ON_A_CPU, "bf16": bits["no"], "fp16": bits["no"]}
    return [
        Row(
            f"held-out bits per character, {name}",
            f"{value:.4f}",
            f"{expected[name]:.4f} ± {TOLERANCE}" if machine.on_gpu else "not judged: a small model",
            abs(value - expected[name]) <= TOLERANCE if machine.on_gpu else None,
        )
        for name, value in bits.items()
    ]


def speed(machine: Machine) -> list[Row]:
    """Characters/s of one process, of several, and of a plain PyTorch script beside them."""
    rows = []
    for kind in ("no", "bf16") if machine.on_gpu else ("no",):
        alone = 0.0
        for world in machine.worlds:
            ours, plain = _in_turns(machine, kind, world)
            alone = alone or ours
            what, judged = f"{kind}, {world} processes", machine.on_gpu
            rows.append(Row(f"characters/s a process, {what}", f"{ours / world:,.0f}", "", None))
            if world > 1:
                part = ours / world / alone
                rows.append(
                    _judged(f"scaling from 1, {what}", part, f">= {SCALING}", part >= SCALING, judged)
                )
            ratio = plain / ours
            name = f"time of a step beside plain DDP's, {what}"
            rows.append(_judged(name, ratio, f"<= {SLOWER}", ratio <= SLOWER, judged))
    return rows


PARTS = (ranks, exact, resume, repeat, precision, speed)


def _in_turns(machine: Machine, kind: str, world: int) -> tuple[float, float]:
    """Characters/s of reelmill and of the plain script: medians over three runs each, in turns."""
    embedding, hidden, rows, length, steps, every = (
        (256, 1024, 256, 200, 200, 20) if machine.on_gpu else (16, 48, 16, 32, 20, 5)
    )
    settings = (
        f"model.embedding_size={embedding}",
        f"model.hidden_size={hidden}",
        f"training.batch_size={rows * world}",
        f"training.sequence_length={length}",
        f"training.steps={steps}",
        f"training.log_every={every}",
        f"training.precision={kind}",
        "training.batches=random",
        "training.clip_norm=0",
        "training.evaluate_every=0",
        "training.checkpoint_every=1000000",
    )
    wanted: dict[str, Any] = {"embedding": embedding, "hidden": hidden, "vocabulary": 90}
    wanted |= {"rows": rows, "length": length}
    wanted |= {"device": machine.device, "precision": kind, "steps": steps, "log_every": every}
    ours: list[float] = []
    plain: list[float] = []
    for turn in range(3):
        run = machine.train(f"speed-{kind}-{world}-{turn}", *settings, processes=world)
        ours += [line["chars_per_second"] for line in metrics(run)][1:]  # the first line has the start in it
        words = machine.command([str(_HERE / "plain_ddp.py"), json.dumps(wanted)], world)
        plain += [float(line) for line in machine.output(words, "plain").split()][1:]
    return statistics.median(ours), statistics.median(plain)


def _judged(name: str, value: float, expected: str, passed: bool, judged: bool) -> Row:
    return Row(
        name, f"{value:.3f}", expected if judged else "not judged on a CPU", passed if judged else None
    )


def _equal(name: str, runs: Sequence[Path]) -> Row:
    """A row that says whether the runs' last weights are the same bits."""
    digests = [weights(run) for run in runs]
    figure = " ".join(dict.fromkeys(digest[:12] for digest in digests))
    return Row(name, figure, "one SHA-256 of the weights", len(set(digests)) == 1)


def _too_few(name: str) -> Row:
    return Row(name, "not run", "not judged: needs two GPUs", None)


def _told(run: Path) -> list[dict[str, Any]]:
    """The metrics without what is a time."""
    timings = ("time", "chars_per_second")
    return [{key: line[key] for key in line if key not in timings} for line in metrics(run)]

"""The machine that the campaign runs on, and one command at a time on it; results are read from files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo.yaml"
_HANGS = 1800.0  # seconds
_SMALL = ("model.embedding_size=16", "model.hidden_size=48", "training.batch_size=16")
_SHORT = ("training.sequence_length=32", "training.evaluation_tunes=20")


class CommandFailed(Exception):
    """A command ended otherwise than it should; the message has the end of what it said."""


@dataclass(frozen=True)
class Row:
    """A line of the table; ``passed`` is None where nothing is judged, for the reason in ``expected``."""

    name: str
    figure: str
    expected: str
    passed: bool | None


@dataclass(frozen=True)
class Machine:
    """``gpus`` processes at most, each with a GPU of its own, or on the CPU with a small model."""

    device: str  # "cuda" or "cpu"
    gpus: int
    place: Path  # where runs are written

    @property
    def on_gpu(self) -> bool:
        """Whether figures say something of a GPU."""
        return self.device == "cuda"

    @property
    def worlds(self) -> list[int]:
        """The numbers of processes that are tried: 1, 2, 4 and 8 where there are more GPUs, and all."""
        return sorted({size for size in (1, 2, 4, 8) if size < self.gpus} | {self.gpus})

    def command(self, script: Sequence[str], processes: int) -> list[str]:
        """Run ``script`` (-m MODULE, or FILE, and arguments) in so many processes."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [sys.executable, *(launcher if processes > 1 else []), *script]

    def training(self, run: Path, *settings: str) -> list[str]:
        """Arguments of ``reelmill train``; on a CPU the model is small, but for what ``settings`` say."""
        small = () if self.on_gpu else (*_SMALL, *_SHORT)
        always = (f"training.device={self.device}", "tracking.comet=false")
        return ["train", str(CONFIG), "--out", str(run), *always, *small, *settings]

    def train(self, name: str, *settings: str, processes: int = 1, script: Sequence[str] = ()) -> Path:
        """Train to the end; the run. ``script`` runs reelmill, if not ``python -m reelmill``."""
        run = self.place / name
        words = [*(script or ("-m", "reelmill")), *self.training(run, *settings)]
        self.output(self.command(words, processes), name)
        return run

    def start(self, words: Sequence[str], name: str) -> subprocess.Popen[str]:
        """Start a command; what it says goes to NAME.out and NAME.err, behind what stands there."""
        self.place.mkdir(parents=True, exist_ok=True)
        with self._said(name, "out").open("a") as out, self._said(name, "err").open("a") as err:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
            return subprocess.Popen(words, stdout=out, stderr=err, text=True, env=environment, cwd=ROOT)

    def output(self, words: Sequence[str], name: str) -> str:
        """What a command says on standard output; CommandFailed unless its exit code is 0."""
        self._said(name, "out").unlink(missing_ok=True)
        process = self.start(words, name)
        try:
            code = process.wait(_HANGS)
        except BaseException:
            kill_all(process)
            raise
        if code != 0:
            raise CommandFailed(f"{name}: exit code {code}: {self._said(name, 'err').read_text()[-400:]}")
        return self._said(name, "out").read_text()

    def killed(self, words: Sequence[str], name: str, when: Callable[[], bool]) -> None:
        """Start a command and kill all its processes (SIGKILL) ``when`` it is time."""
        process = self.start(words, name)
        end = time.monotonic() + _HANGS
        while not when():
            if process.poll() is not None or time.monotonic() > end:
                kill_all(process)
                raise CommandFailed(f"{name}: ended with {process.poll()} before it could be killed")
            time.sleep(0.002)
        kill_all(process)

    def _said(self, name: str, stream: str) -> Path:
        return self.place / f"{name}.{stream}"


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it started."""
    if process.poll() is None:
        started = psutil.Process(process.pid).children(recursive=True)
        for each in (*started, process):
            each.kill()
        psutil.wait_procs(started)
    process.wait()


def metrics(run: Path) -> list[dict[str, Any]]:
    """The whole lines of the run's metrics.jsonl; none if it is not there yet."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def weights(run: Path) -> str:
    """SHA-256 of the weights of the run's last checkpoint."""
    last = max((run / "checkpoints").glob("step-*"))
    return hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest()

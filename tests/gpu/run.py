"""Try on this machine's GPUs what reelmill promises of them; print a table with PASS or FAIL.

    python tests/gpu/run.py                 on the GPUs that torch sees, 1 to 8
    python tests/gpu/run.py --device cpu    the same with a small model and 2 processes: tries the campaign

Everything goes through the command line (torchrun, ``python -m reelmill``) and is read from files. ``--only
PART`` runs one part. Exit code 1 if a row fails, 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import songs
import torch
import training
from machine import Machine, Row

PARTS = {part.__name__: part for part in (*training.PARTS, *songs.PARTS)}


def main() -> int:
    """Run the parts, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", choices=PARTS, action="append")
    options = parser.parse_args()
    gpus = torch.cuda.device_count()
    if options.device == "cuda" and not gpus:
        print("no GPU: torch sees none here; --device cpu tries the campaign without one", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gpu-campaign-") as place:
        machine = Machine(options.device, min(gpus, 8) if options.device == "cuda" else 2, Path(place))
        print(_described(machine), flush=True)
        for name in options.only or PARTS:
            print(f"{name} …", file=sys.stderr, flush=True)
            rows += _tried(PARTS[name], machine)
    print(table(rows))
    return 1 if any(row.passed is False for row in rows) else 0


def _tried(part: Callable[[Machine], list[Row]], machine: Machine) -> list[Row]:
    """The rows of a part; one that fails if the part itself does, so that the others are run."""
    try:
        return part(machine)
    except Exception as error:
        return [Row(part.__name__, " ".join(str(error).split()).replace("|", "/"), "to run", False)]


def _described(machine: Machine) -> str:
    if not machine.on_gpu:
        return (
            f"On the CPU, {machine.gpus} processes, torch {torch.__version__}: tries the campaign, no GPU.\n"
        )
    names = sorted({torch.cuda.get_device_name(number) for number in range(machine.gpus)})
    version = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{machine.gpus} × {', '.join(names)}; {version}, NCCL {torch.cuda.nccl.version()}\n"


def table(rows: Iterable[Row]) -> str:
    """``rows`` in Markdown."""
    results = {True: "PASS", False: "FAIL", None: ""}
    lines = ["| tried | figure | expected | |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.figure} | {row.expected} | {results[row.passed]} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

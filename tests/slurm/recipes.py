"""Recipes small enough for a Slurm on one host, and the jobs that people start with them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


SECTIONS: dict[str, dict[str, Any]] = {
    "model": {"embedding_size": 16, "hidden_size": 32},
    "training": {"steps": 40, "batch_size": 8, "sequence_length": 60, "checkpoint_every": 10},
    "sampling": {"max_length": 100, "slots": 32},
    "songs": {"songs_per_shard": 10, "max_attempts": 1, "require": "none"},
}


def write_recipe(place: Path, bars: int = 8, **sections: dict[str, Any]) -> Path:
    """A recipe in ``place`` for sixty tunes made here, of so many bars; ``sections`` change SECTIONS."""
    (place / "tunes.abc").write_text("\n".join(_tune(number, bars) for number in range(60)))
    corpus = {"source": str(place / "tunes.abc"), "directory": str(place / "corpus")}
    given = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in {**SECTIONS, **sections}}
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump({"corpus": corpus, "tracking": {"comet": False}, **given}))
    return path


def start_job(name: str, *arguments: object) -> None:
    """Run ``python -m jobs.NAME``, which has to end well."""
    command = [sys.executable, "-m", f"jobs.{name}", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=300, cwd=ROOT, env=dict(os.environ))


def _tune(number: int, bars: int) -> str:
    notes = random.Random(number)
    body = "|".join("".join(notes.choice("ABCDEFGabcdefg") for _ in range(8)) for _ in range(bars))
    return f"X:{number + 1}\nT:Tune {number}\nM:4/4\nL:1/8\nK:G\n{body}|]\n"

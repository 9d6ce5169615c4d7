"""The commands of README.md and docs/ run as they are written, one after the other, in a place like a clone.

What stands in ``configs`` there is small: jigs that a small model learns by heart in seconds. Where a page
asks for a thousand songs or a million, it gets a few dozen.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from reelmill.corpus.books import read_book

ROOT = Path(__file__).parents[1]
FIGURES = ["DFA dAF", "GBd gdB", "ABc edc", "fdf ece", "dcB AFD", "Bdd Add", "EGB edB", "fed cBA"]
ENDINGS = ["dAF D3", "AFE D3", "cec d3"]
RECIPE = """
corpus: {source: tunes.abc}
model: {embedding_size: 16, hidden_size: 128}
training: {steps: 320, batch_size: 16, sequence_length: 100, learning_rate: 0.01, checkpoint_every: 160}
sampling: {max_length: 400}
audio: {sample_rate: 8000, channels: 1}
songs: {songs_per_shard: 8}
"""
FEWER = {"1000": "24", "2000": "32", "100000": "24", "1000000": "24", "2000000": "32"}


def tune(generator: random.Random, number: int) -> str:
    """A jig of two repeated parts."""
    parts = [
        " | ".join([*generator.choices(FIGURES, k=7), generator.choice(ENDINGS)]).join(("|: ", " :|\n"))
        for _ in range(2)
    ]
    key = "Ddor" if number % 8 == 0 else "D"
    return f"X:{number}\nT:Jig {number}\nR:jig\nM:6/8\nL:1/8\nK:{key}\n{''.join(parts)}"


def commands(page: str, heading: str) -> list[str]:
    """The indented lines under a heading (``#``: before the first)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    chapters = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    (chapter,) = (
        body for title, body in zip(chapters[1::2], chapters[2::2], strict=True) if title == heading
    )
    return re.findall(r"^    ((?:reelmill|torchrun|accelerate|python) .+)$", chapter, re.MULTILINE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clone")
    generator = random.Random(1)
    (directory / "tunes.abc").write_text("\n".join(tune(generator, number) for number in range(1, 161)))
    (directory / "configs" / "cluster").mkdir(parents=True)
    for name in ("irish", "irish-tuned", "traditional", "demo"):
        (directory / "configs" / f"{name}.yaml").write_text(RECIPE)
    local = ROOT / "configs" / "cluster" / "local.yaml"
    (directory / "configs" / "cluster" / "local.yaml").write_text(local.read_text())
    return directory


def run(line: str, directory: Path) -> str:
    for many, few in FEWER.items():
        line = re.sub(rf"--songs {many}\b", f"--songs {few}", line)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "REELMILL_CACHE": os.environ.get("REELMILL_CACHE", str(Path.home() / ".cache" / "reelmill")),
    }
    done = subprocess.run(
        ["bash", "-c", line], cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_first_steps(clone: Path) -> None:
    """README's way from a corpus to a book that other programs read."""
    lines = commands("README.md", "First steps")
    assert len(lines) >= 12
    said = {line: run(line, clone) for line in lines}
    assert (clone / "x.wav").stat().st_size > 10_000
    assert json.loads((clone / "songs" / "irish" / "summary.json").read_text())["songs"] == 24
    assert any("every id exactly once" in text for text in said.values())
    assert (clone / "songs" / "irish" / "report.html").stat().st_size > 10_000
    assert (clone / "runs" / "irish" / "hub" / "README.md").is_file()
    assert list(read_book(clone / "chosen.abc"))
    book = list(read_book(clone / "jigs.abc"))
    assert len(book) == 20 and all("M:6/8" in song and "K:D\n" in song for song in book)
    assert len({song.splitlines()[0] for song in book}) == 20


@pytest.mark.slow
def test_training_in_several_processes(clone: Path) -> None:
    lines = commands("README.md", "Training in several processes")
    assert len(lines) == 3
    for number, line in enumerate(lines):
        run(line.replace("runs/two", f"runs/two-{number}"), clone)
    best = {(clone / f"runs/two-{number}" / "metrics.jsonl").read_text().count("\n") for number in range(3)}
    assert len(best) == 1


@pytest.mark.slow
def test_songs_as_their_page_has_them(clone: Path) -> None:
    """docs/songs.md from its first line to its last; runs that it takes for granted are trained before."""
    for name in ("irish", "irish-tuned", "traditional"):
        run(f"reelmill train configs/{name}.yaml --run runs/{name}", clone)
    made = [line for heading in ("Songs", "What a song begins with", "Many songs", "Songs for other programs")
            for line in commands("docs/songs.md", heading)]  # fmt: skip
    assert len(made) >= 14
    for line in made:
        if "jigs.abc" in line:
            (clone / "jigs.abc").unlink(missing_ok=True)  # README's
        run(line, clone)
        if "--rhythm" in line:
            run("reelmill collect songs/dorian", clone)
    jigs = pandas.read_parquet(clone / "songs" / "dorian" / "index.parquet")
    assert len(jigs) == 20 and set(jigs["key"]) == {"Ddor"} and set(jigs["rhythm"]) == {"jig"}
    assert len(pandas.read_parquet(clone / "songs" / "irish" / "index.parquet")) == 32
    assert list((clone / "out" / "midi").glob("*.mid")) and list((clone / "out" / "wav").glob("*.wav"))
    assert list(read_book(clone / "jigs.abc"))


@pytest.mark.slow
def test_corpora_as_their_page_has_them(clone: Path) -> None:
    lines = [line for heading in ("Training", "The tunes") for line in commands("docs/training.md", heading)]
    assert len(lines) >= 4
    for line in lines:
        run(line, clone)

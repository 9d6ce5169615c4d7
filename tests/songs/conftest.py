"""A run whose model has learnt a tiny language of tunes, and a songs directory made from it in one go."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reelmill import config, durable
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.layout import CONFIG
from reelmill.model import VOCABULARY, TrainedModel, new_network, weights_of
from reelmill.songs.make.generate import generate
from reelmill.training.checkpoints import Snapshot, write_checkpoint
from reelmill.training.settings import ModelSettings

SHAPE = ModelSettings(embedding_size=16, hidden_size=96)
STEPS, BATCH = 160, 24
FIGURES = ["GABG", "d2BG", "ABcA", "dcBA", "G4", "e2dB", "BAGB", "gfed"]
SETTINGS = {
    "sampling": {"max_length": 200, "slots": 32},
    "songs": {"songs_per_shard": 8},
    "audio": {"sample_rate": 8000, "channels": 1},
}
SONGS = 64


def tune(generator: random.Random) -> str:
    """Four bars of a reel."""
    bars = [generator.choice(FIGURES) + " " + generator.choice(FIGURES) for _ in range(4)]
    return f"X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:{'|'.join(bars)}:|\n"


def trained_model() -> TrainedModel:
    """A model most of whose songs pass ``midi``, and some do not."""
    generator = random.Random(1)
    tunes = [tune(generator) for _ in range(64)]
    vocabulary = Vocabulary.from_texts(tunes)
    network = new_network(SHAPE, vocabulary, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    rows = [torch.tensor([START, *vocabulary.encode(text), END]) for text in tunes]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=START)
    for step in range(STEPS):
        batch = padded[[(step * BATCH + row) % len(rows) for row in range(BATCH)]]
        logits, _ = network(batch[:, :-1])
        targets = batch[:, 1:].reshape(-1)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=START)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return TrainedModel(network.eval(), vocabulary, SHAPE)


def write_run(directory: Path, model: TrainedModel, settings: dict[str, Any]) -> Path:
    """A run directory with one checkpoint."""
    directory.mkdir(parents=True)
    resolved = replace(config.from_dict(settings, "the test"), model=model.settings)
    durable.write_text(directory / CONFIG, config.to_yaml(resolved))
    model.vocabulary.save(directory / VOCABULARY)
    state = {"step": STEPS, "vocabulary_sha256": durable.sha256(directory / VOCABULARY)}
    write_checkpoint(directory, Snapshot(STEPS, weights_of(model.network), {}, state))
    return directory


@pytest.fixture(scope="session")
def model() -> TrainedModel:
    return trained_model()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, model: TrainedModel) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", model, SETTINGS)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """64 songs in eight shards, made by one process. Read only."""
    directory = tmp_path_factory.mktemp("reference") / "songs"
    outcome = generate(run, directory, songs=SONGS, progress=False)
    assert outcome.complete and outcome.songs == SONGS
    return directory


@pytest.fixture
def songs(reference: Path, tmp_path: Path) -> Path:
    """A copy of the reference to do harm to."""
    return Path(shutil.copytree(reference, tmp_path / "songs"))


def tars(directory: Path, *kinds: str) -> dict[str, str]:
    """SHA-256 of every tar by its name below ``directory``."""
    return {
        str(path.relative_to(directory)): durable.sha256(path)
        for kind in kinds or ("text", "audio")
        for path in sorted((directory / kind).glob("*.tar"))
    }


def manifests(directory: Path, *kinds: str) -> dict[str, dict[str, Any]]:
    """Every manifest without its maker."""
    found = {}
    for kind in kinds or ("text", "audio"):
        for path in sorted((directory / kind).glob("*.json")):
            found[f"{kind}/{path.name}"] = json.loads(path.read_text())
            del found[f"{kind}/{path.name}"]["made_by"]
    return found


def start(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """``reelmill generate`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "reelmill", "generate", *map(str, arguments)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

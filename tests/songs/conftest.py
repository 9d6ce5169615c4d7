"""A run whose model has learnt enough of a tiny language of tunes that most of its songs pass ``midi``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from reelmill import config, durable
from reelmill.config import Config
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.model import VOCABULARY, TrainedModel, new_network, weights_of
from reelmill.training.checkpoints import CONFIG, Snapshot, write_checkpoint
from reelmill.training.settings import ModelSettings, TrainingSettings

SHAPE = ModelSettings(embedding_size=16, hidden_size=96)
STEPS, BATCH = 160, 24
FIGURES = ["GABG", "d2BG", "ABcA", "dcBA", "G4", "e2dB", "BAGB", "gfed"]


def tune(generator: random.Random) -> str:
    """Four bars of a reel."""
    bars = [generator.choice(FIGURES) + " " + generator.choice(FIGURES) for _ in range(4)]
    return f"X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:{'|'.join(bars)}:|\n"


def trained_model() -> TrainedModel:
    generator = random.Random(1)
    tunes = [tune(generator) for _ in range(64)]
    vocabulary = Vocabulary.from_texts(tunes)
    network = new_network(SHAPE, vocabulary.size, seed=1)
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


@pytest.fixture(scope="session")
def model() -> TrainedModel:
    return trained_model()


def write_run(directory: Path, model: TrainedModel, settings: Config) -> Path:
    """A run directory with one checkpoint."""
    directory.mkdir(parents=True)
    durable.write_text(directory / CONFIG, config.to_yaml(settings))
    model.vocabulary.save(directory / VOCABULARY)
    state = {"step": STEPS, "vocabulary_sha256": durable.sha256(directory / VOCABULARY)}
    write_checkpoint(directory, Snapshot(STEPS, weights_of(model.network), {}, state))
    return directory


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, model: TrainedModel) -> Path:
    settings = config.from_dict(
        {
            "sampling": {"max_length": 200, "slots": 32},
            "songs": {"songs_per_shard": 8},
            "audio": {"sample_rate": 8000, "channels": 1},
        },
        "the test",
    )
    settings = config.load(None) if settings is None else settings
    from dataclasses import replace

    return write_run(
        tmp_path_factory.mktemp("runs") / "run",
        model,
        replace(settings, model=SHAPE, training=TrainingSettings(steps=STEPS)),
    )

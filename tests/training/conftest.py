"""A small real corpus and tiny models."""

from pathlib import Path

import pytest

from reelmill import config
from reelmill.corpus import named
from reelmill.corpus.books import read_book
from reelmill.errors import RequestError

TINY = (
    "model.embedding_size=8",
    "model.hidden_size=24",
    "model.layers=2",
    "model.dropout=0.2",
    "training.batch_size=6",
    "training.sequence_length=24",
    "training.steps=24",
    "training.log_every=1",
    "training.evaluate_every=8",
    "training.evaluation_tunes=20",
    "training.checkpoint_every=6",
    "training.clip_norm=1.0",
    "tracking.comet=false",
)


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty real tunes in a file."""
    try:
        source = next(named.get("irish").glob("*.abc"))
    except RequestError as error:
        pytest.skip(f"needs a network once: {error}")
    tunes = [tune.strip() for tune, _ in zip(read_book(source), range(60), strict=False)]
    path = tmp_path_factory.mktemp("book") / "book.abc"
    path.write_text("\n\n".join(tunes) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny(book, tmp_path_factory):
    """``tiny("training.steps=9", ...)``: overrides of a tiny configuration on the sixty tunes."""
    place = tmp_path_factory.mktemp("corpus")
    corpus = (
        f"corpus.source={book}",
        f"corpus.directory={place}",
        "corpus.validation_fraction=0.2",
        "corpus.test_fraction=0.1",
    )
    return lambda *overrides: [*corpus, *TINY, *overrides]


@pytest.fixture(scope="session")
def configured(tiny):
    """The same as a ``Config``."""
    return lambda *overrides: config.load(None, tiny(*overrides))


@pytest.fixture
def every_checkpoint(monkeypatch):
    """Each checkpoint is written before the next step, so that none gives way to a later one."""
    from reelmill.training.checkpoints import CheckpointWriter

    submit = CheckpointWriter.submit

    def submit_and_wait(self, snapshot, best):
        submit(self, snapshot, best)
        self.settle()

    monkeypatch.setattr(CheckpointWriter, "submit", submit_and_wait)

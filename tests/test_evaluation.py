"""Bits per character: the same figure however tunes are put together, and honest about what it leaves out."""

import math
import shutil

import numpy as np
import pytest
import torch

from reelmill import config
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.evaluation import evaluate, evaluate_run
from reelmill.model import TrainedModel, new_network
from reelmill.training.loop import train
from reelmill.training.settings import ModelSettings

TUNES = [
    f"X:{number}\nT:Tune {number}\nM:4/4\nL:1/8\nK:D\n"
    + "|".join(["DEFG ABcd"] * (number * 7 % 23 + 1))
    + "|\n"
    for number in range(150)
]
SETTINGS = ModelSettings(embedding_size=8, hidden_size=16, layers=2)


@pytest.fixture(scope="module")
def model():
    vocabulary = Vocabulary.from_texts(TUNES)
    return TrainedModel(new_network(SETTINGS, vocabulary, seed=1), vocabulary, SETTINGS)


def bits_alone(model, tune):
    """The definition: start mark first, zero state, the end mark counted."""
    characters = torch.tensor([[START, *model.vocabulary.encode(tune), END]])
    with torch.no_grad():
        logits, _ = model.network(characters[:, :-1])
    chosen = torch.log_softmax(logits.double(), -1)[0].gather(1, characters[0, 1:, None])
    return -chosen.sum().item() / math.log(2)


def test_batches_do_not_change_the_figure(model):
    scores = evaluate(model, TUNES, device="cpu")
    bits = sum(bits_alone(model, tune) for tune in TUNES)
    characters = sum(len(tune) + 1 for tune in TUNES)
    assert scores["chars"] == characters
    assert scores["tunes"] == len(TUNES)
    assert scores["unknown_chars"] == 0
    assert scores["bits_per_char"] == pytest.approx(bits / characters, abs=1e-6)
    assert scores["bits_per_tune"] == pytest.approx(bits / len(TUNES), rel=1e-6)


def test_a_tune_longer_than_a_piece(model):
    tune = TUNES[3] + "DEFG|" * 300 + "\n"
    assert evaluate(model, [tune], "cpu")["bits_per_tune"] == pytest.approx(bits_alone(model, tune), rel=1e-6)


def test_unknown_characters_are_left_out_and_counted(model):
    known = evaluate(model, TUNES[:5], "cpu")
    strange = evaluate(model, [tune.replace("K:", "\N{BULLET}K\N{SNOWMAN}:") for tune in TUNES[:5]], "cpu")
    assert strange == {**known, "unknown_chars": 10}


def test_nothing_to_score(model):
    with pytest.raises(RequestError, match="no tune"):
        evaluate(model, [], "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluated")
    generator = np.random.default_rng(1)
    bars = ["DEFG ABcd", "d2cB A2GF", "fefd cAGE", "D4 A4", "gfed cBAG", "BcdB ABAF"]
    tunes = [
        f"X:{number}\nT:No. {number}\nM:4/4\nL:1/8\nK:D\n" + "|".join(generator.choice(bars, 16)) + "|]\n"
        for number in range(80)
    ]
    (place / "book.abc").write_text("\n".join(tunes))
    settings = config.load(
        None,
        [
            f"corpus.source={place / 'book.abc'}",
            f"corpus.directory={place / 'corpus'}",
            "corpus.similarity=1.0",
            "corpus.test_fraction=0.2",
            "corpus.validation_fraction=0.2",
            "model.embedding_size=8",
            "model.hidden_size=16",
            "training.steps=12",
            "training.checkpoint_every=6",
            "training.batch_size=4",
            "training.sequence_length=32",
            "tracking.comet=false",
        ],
    )
    assert train(settings, place / "run").finished
    return place / "run"


def test_the_test_split_of_a_run(run):
    scores = evaluate_run(run)
    assert scores["tunes_from"] == "test"
    assert scores["checkpoint"] == "step-000012"
    assert 0 < scores["bits_per_char"] < 8
    assert scores["chars"] > 0 == scores["unknown_chars"]
    earlier = evaluate_run(run, "step-000006")
    assert earlier["step"] == 6
    assert earlier["chars"] == scores["chars"]
    assert earlier["bits_per_char"] != scores["bits_per_char"]


def test_an_abc_file_is_brought_to_canonical_form(run, tmp_path):
    tune = "X:1\nT:One\nM:4/4\nL:1/8\nK:D\nDEFG ABcd|d2cB A2GF|]\n"
    one, two = tmp_path / "one.abc", tmp_path / "two.abc"
    one.write_text(tune)
    two.write_bytes(
        b"A free text\n\n" + tune.replace("T:One", "T:One\nN:a note\nZ:me").encode() + b"\nX:2\n\n"
    )
    scores = evaluate_run(run, abc=one)
    assert scores["tunes"] == 1
    assert scores["dropped"] == {}
    again = evaluate_run(run, abc=two)
    assert again["bits_per_tune"] == scores["bits_per_tune"]
    assert sum(again["dropped"].values()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no tune"), (b"PNG\0\1", "binary"), (b"no tune at all\n", "no tune"), (None, "cannot be read")],
)
def test_files_that_hold_no_tune(run, tmp_path, content, message):
    path = tmp_path / "file.abc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"file\.abc.*{message}"):
        evaluate_run(run, abc=path)


def test_what_is_no_run(tmp_path, run):
    with pytest.raises(RequestError, match="no such run"):
        evaluate_run(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="no checkpoint"):
        evaluate_run(tmp_path)
    with pytest.raises(RequestError, match=r"no checkpoint '77'.*step-000006, step-000012"):
        evaluate_run(run, "77")


def test_a_run_is_judged_by_the_tunes_it_held_out_whatever_becomes_of_the_corpus(run, tmp_path):
    """Built again, by later code or from other tunes, a corpus may hold out what a run was trained on."""
    before = evaluate_run(run)
    corpus = run.parent / "corpus"
    book = run.parent / "book.abc"
    text = book.read_text()
    try:
        corpus.rename(tmp_path / "corpus")
        book.write_text(text.replace("BcdB", "GABc"))
        assert evaluate_run(run) == before
    finally:
        book.write_text(text)
        (tmp_path / "corpus").rename(corpus)


def test_test_tunes_that_are_not_those_held_out_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "test.parquet"
    path.write_bytes(path.read_bytes().replace(b"No. ", b"No, "))
    with pytest.raises(DamagedError, match=r"test\.parquet: not the tunes that were held out"):
        evaluate_run(copy)
    path.unlink()
    with pytest.raises(DamagedError, match=r"test\.parquet: missing.*--abc"):
        evaluate_run(copy)

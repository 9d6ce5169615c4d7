"""Training in one process: it learns, and what interrupts it leaves no trace."""

import json
import time

import pytest
import torch
from training_runs import POINTER, assert_equal, assert_same, weights_bytes

from reelmill.corpus.build import load_or_build
from reelmill.errors import RequestError
from reelmill.evaluation import evaluate
from reelmill.model import TrainedModel
from reelmill.runs import checkpoint_steps, load_model, newest_intact, verified
from reelmill.tracking.metrics import read_metrics
from reelmill.training import processes
from reelmill.training.loop import Trainer, train
from reelmill.training.progress import Progress

BFLOAT16 = pytest.mark.skipif(
    not (torch.cuda.is_available() or processes.trains_in_bfloat16()),
    reason="this processor cannot train in bfloat16: that was not run",
)


def interrupt_at(monkeypatch, steps):
    """Ask for a stop as soon as a step in ``steps`` is made; each only once."""
    waiting = set(steps)
    update = Trainer.update

    def update_and_ask(self, batch):
        update(self, batch)
        if self.progress.step in waiting:
            waiting.remove(self.progress.step)
            self.stop.ask("SIGTERM")

    monkeypatch.setattr(Trainer, "update", update_and_ask)


@pytest.fixture(scope="module")
def uninterrupted(configured, tmp_path_factory):
    runs = {}

    def run_of(*overrides):
        if overrides not in runs:
            runs[overrides] = tmp_path_factory.mktemp("run") / "whole"
            assert train(configured(*overrides), runs[overrides]).finished
        return runs[overrides]

    return run_of


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("training.batches=stream",),
        ("training.batches=stream", "training.accumulation=3", "training.schedule=cosine"),
        pytest.param(
            ("training.precision=bf16", "training.log_every=5", "training.warmup_steps=5"),
            marks=BFLOAT16,
        ),
        ("training.batches=stream", "training.transpose=true"),
        (*POINTER, "training.accumulation=2", "training.transpose=true"),
        pytest.param((*POINTER, "training.precision=bf16"), marks=BFLOAT16),
    ],
)
def test_an_interrupted_run_equals_the_uninterrupted_one(
    configured, uninterrupted, tmp_path, monkeypatch, overrides
):
    whole = uninterrupted(*overrides)
    interrupt_at(monkeypatch, {1, 7, 8, 13, 18})
    config, run = configured(*overrides), tmp_path / "run"
    results = []
    while not results or not results[-1].finished:
        results.append(train(config, run))
    assert [result.step for result in results] == [1, 7, 8, 13, 18, 24]
    assert [result.stopped_by for result in results] == ["SIGTERM"] * 5 + [""]
    assert_same(run, whole, 24)


def test_a_stop_during_evaluation(configured, uninterrupted, tmp_path, monkeypatch):
    asked = []
    evaluate = Trainer.evaluate

    def evaluate_and_ask(self):
        if self.progress.step not in asked:
            asked.append(self.progress.step)
            self.stop.ask("SIGUSR2")
        return evaluate(self)

    monkeypatch.setattr(Trainer, "evaluate", evaluate_and_ask)
    config, run = configured(), tmp_path / "run"
    assert [train(config, run).step for _ in range(3)] == [8, 16, 24]
    assert not verified(run, 24).state["finished"]
    assert train(config, run).finished
    assert_same(run, uninterrupted(), 24)
    assert verified(run, 24).state["finished"]


def test_metrics_are_cut_back_to_the_checkpoint(configured, uninterrupted, tmp_path, monkeypatch):
    """As after a kill between two checkpoints: nothing is saved, but metrics were written."""
    config, run = configured(), tmp_path / "run"
    update = Trainer.update

    def die(self, batch):
        if self.progress.step == 16:
            raise KeyboardInterrupt
        update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", die)
        with pytest.raises(KeyboardInterrupt):
            train(config, run)
    assert read_metrics(run / "metrics.jsonl")[-1]["step"] == 16
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 17, "lo')
    assert train(config, run).finished
    assert_same(run, uninterrupted(), 24)
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == list(range(1, 25))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    configured, uninterrupted, tmp_path, monkeypatch, caplog, every_checkpoint, name, damage
):
    run = tmp_path / "run"
    interrupt_at(monkeypatch, {14})
    train(configured(), run)
    assert checkpoint_steps(run)[-2:] == [12, 14]
    path = run / "checkpoints" / "step-000014" / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data[:-7] if damage == "truncated" else data)
    assert train(configured(), run).finished
    assert (run / "checkpoints" / "step-000014.damaged-1").is_dir()
    assert "step-000014" in caplog.text
    assert "the one before is used" in caplog.text
    assert_same(run, uninterrupted(), 24)


def test_it_learns(configured, tmp_path):
    config = configured(
        "training.steps=250",
        "training.learning_rate=1e-2",
        "training.evaluate_every=50",
        "training.log_every=10",
        "model.hidden_size=48",
    )
    result = train(config, tmp_path)
    losses = [record["bits_per_char"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert losses[0] > 5
    assert losses[-1] < 3.5  # single characters of these tunes have an entropy of about 4.3 bits
    assert result.best_bits_per_char < 3.5


def test_a_pointer_learns_and_is_evaluated_as_it_was_trained(configured, tmp_path):
    train(configured(*POINTER, "training.steps=8", "training.evaluation_tunes=0"), tmp_path)
    found = read_metrics(tmp_path / "metrics.jsonl")[-1]["validation_bits_per_char"]
    tunes = load_or_build(configured().corpus).tunes["validation"]["text"]
    scores = evaluate(load_model(tmp_path), tunes)
    assert scores["bits_per_char"] == pytest.approx(found, abs=1e-5)
    assert load_model(tmp_path).settings.pointer == 8


@pytest.mark.parametrize("batches", ["random", "stream"])
@pytest.mark.parametrize("part", ["model.pointer=8", "model.position=4"])
def test_a_pointer_needs_whole_tunes(configured, tmp_path, part, batches):
    with pytest.raises(RequestError, match=r"set training\.batches=tunes"):
        train(configured(part, f"training.batches={batches}"), tmp_path)


@pytest.mark.parametrize("tied", ["model.tie_embedding=true", "model.layers=1"])
def test_other_models_train(configured, tmp_path, tied):
    assert train(configured(tied, "model.embedding_size=24", "training.steps=2"), tmp_path).finished
    assert isinstance(load_model(tmp_path), TrainedModel)


def test_micro_batches_change_the_loss_by_rounding_only(configured, tmp_path):
    losses = []
    for accumulation in (1, 4):
        run = tmp_path / str(accumulation)
        train(configured(f"training.accumulation={accumulation}"), run)
        losses.append([record["loss"] for record in read_metrics(run / "metrics.jsonl")])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_best_and_the_last_checkpoints_are_kept(configured, tmp_path, monkeypatch, every_checkpoint):
    bits = iter([3.0, 2.0, 2.5, 2.6, 2.7, 2.8])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: next(bits))
    config = configured(
        "training.evaluate_every=4", "training.keep_checkpoints=2", "training.checkpoint_every=6"
    )
    result = train(config, tmp_path)
    assert (result.best_step, result.best_bits_per_char) == (8, 2.0)
    assert checkpoint_steps(tmp_path) == [8, 18, 24]
    assert_equal(
        load_model(tmp_path).network.state_dict(), load_model(tmp_path, "step-000008").network.state_dict()
    )
    last = load_model(tmp_path, "last").network.state_dict()
    assert_equal(last, load_model(tmp_path, "24").network.state_dict())
    assert not torch.equal(last["output.bias"], load_model(tmp_path).network.state_dict()["output.bias"])


def test_it_stops_early_when_nothing_gets_better(configured, tmp_path, monkeypatch):
    bits = iter([3.0, 2.0, 2.1, 2.0, 1.0])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: next(bits))
    config = configured("training.evaluate_every=2", "training.patience=2")
    result = train(config, tmp_path)
    assert (result.step, result.finished, result.best_step) == (8, True, 4)
    assert train(config, tmp_path) == result


def test_the_deadline_stops_it_after_a_checkpoint(configured, tmp_path):
    config = configured(
        "training.steps=100000", "training.checkpoint_every=100000", "training.evaluate_every=0"
    )
    result = train(config, tmp_path, deadline=time.time() + 2)
    assert (result.finished, result.stopped_by) == (False, "deadline")
    assert newest_intact(tmp_path).step == result.step > 0
    assert train(config, tmp_path, deadline=time.time()).step == result.step


def test_a_finished_run_is_left_alone(configured, uninterrupted):
    run = uninterrupted()
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}
    assert train(configured(), run).finished
    assert before == {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}


def test_steps_may_grow_under_a_constant_schedule(configured, uninterrupted, tmp_path):
    run = tmp_path / "run"
    train(configured("training.steps=16"), run)
    assert train(configured(), run).finished
    assert weights_bytes(run, 24) == weights_bytes(uninterrupted(), 24)
    with pytest.raises(RequestError, match=r"training\.steps was 24, now 16"):
        train(configured("training.steps=16"), run)


def test_steps_may_grow_under_a_cosine_and_why_its_end_differs_is_said(configured, tmp_path, caplog):
    train(configured("training.schedule=cosine", "training.steps=6"), tmp_path)
    assert train(configured("training.schedule=cosine", "training.steps=9"), tmp_path).step == 9
    assert "followed a cosine that ends at 6, those to come follow one that ends at 9" in caplog.text
    rates = [record["learning_rate"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert rates[5] < rates[6]


def test_a_run_begins_with_the_best_weights_of_another(configured, uninterrupted, tmp_path):
    run, other = tmp_path / "run", uninterrupted()
    begin = ("training.steps=1", "training.learning_rate=1e-12", "training.seed=9")
    train(configured(f"training.init_from={other}", *begin), run)
    best = load_model(other)
    assert load_model(run).vocabulary == best.vocabulary
    for name, weights in load_model(run).network.state_dict().items():
        torch.testing.assert_close(weights, best.network.state_dict()[name], rtol=0, atol=1e-9)
    (tmp_path / "model").mkdir()
    best.save(tmp_path / "model")
    train(configured(f"training.init_from={tmp_path / 'model'}", *begin), tmp_path / "again")
    assert weights_bytes(tmp_path / "again", 1) == weights_bytes(run, 1)
    with pytest.raises(RequestError, match=r"training\.init_from was"):
        train(configured(*begin), run)


def test_weights_to_begin_with_must_fit(configured, uninterrupted, book, tmp_path):
    begin = f"training.init_from={uninterrupted()}"
    with pytest.raises(RequestError, match=r"model\.hidden_size is 24 there, 32 here; set what it has"):
        train(configured(begin, "model.hidden_size=32"), tmp_path / "run")
    with pytest.raises(RequestError, match=r"training\.init_from: .*nowhere: no model there"):
        train(configured("training.init_from=nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    strange = tmp_path / "strange.abc"
    strange.write_text(book.read_text().replace("T:", "T:þŋ "))
    corpus = (f"corpus.source={strange}", f"corpus.directory={tmp_path / 'corpus'}")
    with pytest.raises(RequestError, match="its vocabulary lacks 'þ', 'ŋ' of the training tunes"):
        train(configured(begin, *corpus), tmp_path / "run")


def test_other_settings_are_refused_by_name(configured, tmp_path):
    train(configured("training.steps=2"), tmp_path)
    with pytest.raises(RequestError) as error:
        train(configured("training.steps=2", "model.hidden_size=9", "training.seed=4"), tmp_path)
    assert "model.hidden_size was 24, now 9" in str(error.value)
    assert "training.seed was 0, now 4" in str(error.value)
    train(configured("training.steps=2", "training.checkpoint_every=1", "sampling.top_k=3"), tmp_path)


def test_a_run_that_has_trained_nothing_takes_other_settings(configured, tmp_path):
    with pytest.raises(RequestError):
        train(configured("training.sequence_length=10000000"), tmp_path)
    assert train(configured("training.steps=1"), tmp_path).finished


def test_other_tunes_are_refused(configured, book, tmp_path, tmp_path_factory):
    tunes = book.read_text()
    copy = tmp_path / "copy.abc"
    copy.write_text(tunes)
    overrides = (f"corpus.source={copy}", f"corpus.directory={tmp_path / 'corpus'}", "training.steps=4")
    train(configured(*overrides), tmp_path / "run")
    copy.write_text(tunes.replace("d", "e"))
    with pytest.raises(RequestError, match="no longer those"):
        train(configured(*overrides[:2], "training.steps=8"), tmp_path / "run")


def test_what_is_no_run_directory_is_refused(configured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="a file"):
        train(configured(), tmp_path / "file")
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "plan.json").write_text("{}")
    with pytest.raises(RequestError, match="a songs directory"):
        train(configured(), songs)
    with pytest.raises(RequestError, match="is not a run"):
        train(configured(), tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.accumulation=7", r"training\.batch_size = 6"),
        ("training.warmup_steps=100", r"training\.warmup_steps = 100"),
        ("training.precision=fp16", "needs a GPU"),
        ("model.tie_embedding=true", r"model\.embedding_size"),
    ],
)
def test_settings_that_cannot_be(configured, tmp_path, override, message):
    if "fp16" in override and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RequestError, match=message):
        train(configured(override), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_bfloat16_is_refused_where_the_processor_cannot(configured, tmp_path, monkeypatch):
    if processes.trains_in_bfloat16():
        monkeypatch.setattr(processes, "trains_in_bfloat16", lambda: False)
    with pytest.raises(RequestError, match=r"training\.precision = 'bf16'.*use training\.precision=no"):
        train(configured("training.precision=bf16"), tmp_path / "run")


def test_what_a_killed_writer_left_is_cleaned(configured, tmp_path):
    half = tmp_path / "checkpoints" / ".step-000010.partial-0123456789ab"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    train(configured("training.steps=1"), tmp_path)
    assert not half.exists()


def test_the_run_tells_what_it_is(configured, uninterrupted):
    run = uninterrupted()
    from reelmill import config

    assert config.load(run / "config.yaml") == configured()
    assert json.loads((run / "vocabulary.json").read_text())["start"] == 0
    state = verified(run, 24).state
    assert (state["step"], state["finished"], state["world_size"]) == (24, True, 1)
    assert Progress(**state).result() == train(configured(), run)


def test_a_run_that_diverges_ends_with_the_reason(configured, tmp_path):
    settings = configured("training.learning_rate=1e38", "training.log_every=1")
    with pytest.raises(RequestError, match=r"diverged, with training\.learning_rate = 1e\+38"):
        train(settings, tmp_path)
    assert all(verified(tmp_path, step) for step in checkpoint_steps(tmp_path))


def test_a_divergence_is_no_checkpoint(configured, tmp_path, monkeypatch):
    update = Trainer.update

    def diverge(self, batch):
        update(self, batch)
        if self.progress.step == 8:
            self.window.add(torch.tensor(float("nan")))

    monkeypatch.setattr(Trainer, "update", diverge)
    settings = configured("training.log_every=50", "training.checkpoint_every=2", "training.evaluate_every=0")
    with pytest.raises(RequestError, match="the loss is nan at step 8"):
        train(settings, tmp_path)
    assert newest_intact(tmp_path).step == 6


@pytest.mark.parametrize("override", ["songs.prompts=['\u266b']", "songs.prompts=['X:1']"])
def test_a_sample_song_that_cannot_be_is_a_warning(configured, tmp_path, caplog, override):
    settings = configured(
        "training.sample_every=12", "tracking.comet=true", "sampling.max_length=3", override
    )
    assert train(settings, tmp_path).finished
    assert "no sample song: prompt" in caplog.text


def test_sample_songs_reach_the_outbox_and_change_nothing(configured, uninterrupted, tmp_path):
    train(configured("training.sample_every=12", "tracking.comet=true", "sampling.max_length=60"), tmp_path)
    assert weights_bytes(tmp_path, 24) == weights_bytes(uninterrupted(), 24)
    published = [str(path) for path in (tmp_path / "comet").rglob("*")]
    for step in (12, 24):
        assert any(f"sample-{step:06d}" in path for path in published), published


def test_it_says_who_trains_and_how_long_before_the_time_is_spent(configured, tmp_path, capsys):
    train(configured("training.steps=20", "training.checkpoint_every=15"), tmp_path)
    said = capsys.readouterr().err
    who = "training in 1 process on cpu, 6 rows a step, float32"
    much = "20 steps of 144 characters, 2,880 in all"
    left = "s left; the next checkpoint is due at step 15, in "
    assert said.index(who) < said.index(much) < said.index(left)
    train(configured("training.steps=40", "training.checkpoint_every=15"), tmp_path)
    assert "the last 20 of 40 steps of" in capsys.readouterr().err

"""The model: what goes in and out, its dropout, and what a model's directory survives."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelmill.config import parse
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.model import TrainedModel, dropout_masks, new_network
from reelmill.songs.store.model_copy import model_hash
from reelmill.training.settings import ModelSettings

SMALL = ModelSettings(embedding_size=12, hidden_size=16, layers=2, dropout=0.4)
WITH = [{"pointer": 8}, {"pointer": 8, "position": 4}, {"pointer": 8, "pointer_window": 7, "position": 4}]
VOCABULARY = Vocabulary.from_texts(["X:1\nK:D\nDEFG|\n"])


def small_model(**changes):
    settings = dataclasses.replace(SMALL, **changes)
    return TrainedModel(new_network(settings, VOCABULARY, seed=3), VOCABULARY, settings)


def masks(settings, seed, step, rows):
    return [torch.from_numpy(mask) for mask in dropout_masks(settings, seed, step, rows)]


def some_characters(batch, time):
    return torch.from_numpy(np.arange(batch * time).reshape(batch, time) % VOCABULARY.size)


def test_shapes_and_types():
    logits, (hidden, cell) = small_model().network(some_characters(5, 7))
    assert logits.shape == (5, 7, VOCABULARY.size)
    assert logits.dtype == torch.float32
    assert hidden.shape == cell.shape == (2, 5, 16)


def test_state_carries_a_sequence_on():
    network = small_model().network
    characters = some_characters(3, 20)
    whole, state = network(characters)
    first, middle = network(characters[:, :9])
    second, end = network(characters[:, 9:], middle)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, state)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = new_network(SMALL, VOCABULARY, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    two = new_network(SMALL, VOCABULARY, seed=5).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(
        one["output.weight"], new_network(SMALL, VOCABULARY, seed=6).state_dict()["output.weight"]
    )


def test_dropout_of_a_row_does_not_depend_on_how_the_batch_is_cut():
    network = small_model().network
    characters = some_characters(8, 11)
    whole, _ = network(characters, masks=masks(SMALL, 7, 3, range(8)))
    assert not torch.equal(whole, network(characters)[0])
    for rows in (range(3), range(3, 8), range(6, 7)):
        part, _ = network(characters[rows.start : rows.stop], masks=masks(SMALL, 7, 3, rows))
        torch.testing.assert_close(part, whole[rows.start : rows.stop])


def test_dropout_masks_differ_by_seed_step_row_and_layer():
    settings = ModelSettings(embedding_size=500, hidden_size=500, dropout=0.5)
    drawn = [
        dropout_masks(settings, seed, step, range(row, row + 1))[layer].tobytes()
        for seed, step, row, layer in [(1, 1, 0, 0), (2, 1, 0, 0), (1, 2, 0, 0), (1, 1, 1, 0), (1, 1, 0, 1)]
    ]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate):
    mask = dropout_masks(ModelSettings(hidden_size=1000, dropout=rate), 0, 0, range(200))[1]
    assert np.mean(mask == 0) == pytest.approx(rate, abs=0.005)
    assert mask.mean() == pytest.approx(1, abs=0.02)
    assert np.mean(mask == 0, axis=0).std() < 0.05  # no column is favoured
    assert np.mean(mask == 0, axis=1).std() < 0.03  # nor any row


def test_no_dropout_without_masks():
    network = small_model().network.train()
    characters = some_characters(2, 5)
    assert torch.equal(network(characters)[0], network(characters)[0])


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_embedding": True, "embedding_size": 16}, {"layers": 1}, {"pointer": 8, "position": 4}],
)
def test_saved_model_gives_the_same_logits(tmp_path, changes):
    model = small_model(**changes)
    model.save(tmp_path)
    again = TrainedModel.load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    assert again.settings == model.settings
    assert again.vocabulary == model.vocabulary
    assert torch.equal(again.network(some_characters(2, 9))[0], model.network(some_characters(2, 9))[0])


def test_models_without_pointer_and_position_are_what_they_were():
    """A model of an earlier version has the same weights under the same names, and a plan the same hash."""
    assert sorted({name.split(".")[0] for name in small_model().network.state_dict()}) == [
        "embedding",
        "layers",
        "output",
    ]
    earlier = {"embedding_size": 12, "hidden_size": 16, "layers": 2, "dropout": 0.4, "tie_embedding": False}
    assert parse(ModelSettings, earlier, "model.json") == SMALL
    about = hashlib.sha256(json.dumps([earlier, VOCABULARY.to_json()], sort_keys=True).encode())
    model = small_model()
    for name, value in sorted(model.network.state_dict().items()):
        about.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        about.update(value.numpy().tobytes())
    assert model_hash(model) == about.hexdigest()
    assert model_hash(small_model(pointer=8)) != model_hash(small_model(pointer=8, pointer_window=9))


@pytest.mark.parametrize("changes", WITH, ids=str)
def test_a_pointer_gives_probabilities_of_what_was_read_alone(changes):
    network = small_model(**changes).network
    tune = torch.cat([torch.zeros(3, 1, dtype=torch.int64), some_characters(3, 40)], dim=1)
    found, _ = network(tune)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, 41))
    changed = tune.clone()
    changed[:, 25:] = 3
    torch.testing.assert_close(network(changed)[0][:, :25], found[:, :25])


@pytest.mark.parametrize("changes", [*WITH, {"position": 4}], ids=str)
def test_a_pointer_goes_on_where_it_was(changes):
    network = small_model(**changes).network
    tune = torch.cat([torch.zeros(3, 1, dtype=torch.int64), some_characters(3, 40)], dim=1)
    whole, _ = network(tune)
    pieces, state = [], None
    for begin, end in ((0, 1), (1, 14), (14, 15), (15, 41)):
        found, state = network(tune[:, begin:end], state)
        pieces.append(found)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)


def test_a_pointer_sees_no_further_than_its_window():
    network = small_model(pointer=8, pointer_window=5).network
    with torch.no_grad():
        network.pointer.gate.bias.fill_(50)  # it only copies
    tune = torch.tensor([[0, 2, 3, 4, 4, 4, 4, 4, 4, 4]])
    chances = network(tune)[0].exp()[0]
    assert chances[5, 3] > 0.01  # a five places back, whose next is seen
    assert chances[9, 4] > 0.999


def test_tied_weights_stay_tied_after_loading(tmp_path):
    model = small_model(tie_embedding=True, embedding_size=16)
    model.save(tmp_path)
    assert "output.weight" not in load_file(tmp_path / "model.safetensors")
    network = TrainedModel.load(tmp_path).network
    assert network.output.weight is network.embedding.weight


def test_tying_goes_without_positions():
    with pytest.raises(RequestError, match=r"model\.tie_embedding cannot be with model\.position"):
        small_model(tie_embedding=True, embedding_size=16, position=4)


def test_tying_needs_equal_sizes():
    with pytest.raises(RequestError, match=r"model\.embedding_size \(12\).*model\.hidden_size \(16\)"):
        small_model(tie_embedding=True)


def test_no_model_there(tmp_path):
    with pytest.raises(RequestError, match="no model there"):
        TrainedModel.load(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="no model there"):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "vocabulary.json"])
def test_damage_is_named(tmp_path, name):
    small_model().save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedError, match=name):
        TrainedModel.load(tmp_path)
    path.write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(DamagedError, match=name):
        TrainedModel.load(tmp_path)
    path.unlink()
    with pytest.raises(DamagedError, match=name):
        TrainedModel.load(tmp_path)


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    small_model().save(tmp_path)
    values = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(values | {"hidden_size": 20}))
    with pytest.raises(DamagedError, match=r"model\.safetensors: .* is \(.*want \("):
        TrainedModel.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(values))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "more": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DamagedError, match="more"):
        TrainedModel.load(tmp_path)
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(DamagedError, match="float32"):
        TrainedModel.load(tmp_path)

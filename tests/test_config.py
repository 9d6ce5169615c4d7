"""Settings: defaults ← file ← overrides, and errors that say what would be right."""

import json
from pathlib import Path

import pytest

from reelmill.config import Config, differences, from_dict, load, read_value, to_yaml
from reelmill.errors import RequestError

CONFIGS = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))


def test_file_over_defaults_and_overrides_over_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("training:\n  steps: 7\n  seed: 3\n")
    config = load(tmp_path / "a.yaml", ["training.steps=9", "corpus.source=[a, b]"])
    assert (config.training.steps, config.training.seed, config.training.batch_size) == (9, 3, 32)
    assert config.corpus.source == ["a", "b"]


def test_numbers_are_written_as_in_yaml_1_2() -> None:
    assert load(None, ["training.learning_rate=2e-3"]).training.learning_rate == 0.002
    assert load(None, ["training.learning_rate=1"]).training.learning_rate == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4:00:00", "4:00:00"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("+3", 3), ("1_000", "1_000"),
        ("2026-11-24", "2026-11-24"), ("1e3", 1000.0), (".5", 0.5), ("-.inf", float("-inf")), ("~", None),
        ("", None), ("off", "off"), ("True", True), ("0o8", "0o8"), ("=", "="), ("12e", "12e"), (".", "."),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Section 10.3.2 of the specification, the core schema."""
    read = read_value(text, f"x.y={text}")
    assert read == value and type(read) is type(value)


def test_text_that_looks_like_a_number_survives_a_round_trip(tmp_path: Path) -> None:
    prompts = ["1e5", "0o17", "010", "4:00:00", "1_0", "no", "", "~", "X:1\n", "🎵", "<<", "2026-11-24"]
    config = from_dict({"songs": {"prompts": prompts}}, "the test")
    (tmp_path / "a.yaml").write_text(to_yaml(config))
    assert load(tmp_path / "a.yaml").songs.prompts == prompts
    assert load(None, [f"songs.prompts={json.dumps(prompts, ensure_ascii=False)}"]).songs.prompts == prompts


def test_no_is_a_word_and_true_is_not() -> None:
    config = load(None, ["training.precision=no", "model.tie_embedding=true", "tracking.online=false"])
    assert (config.training.precision, config.model.tie_embedding) == ("no", True)
    assert config.tracking.online is False


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load(path)
    (tmp_path / "a.yaml").write_text(to_yaml(config))
    assert load(tmp_path / "a.yaml") == config


def test_irish_is_the_labs_recipe() -> None:
    config = load(Path(__file__).parents[1] / "configs" / "irish.yaml")
    model, training = config.model, config.training
    assert (model.embedding_size, model.hidden_size, model.layers, model.dropout) == (256, 1024, 1, 0.0)
    assert (training.learning_rate, training.batch_size, training.sequence_length) == (2e-3, 32, 200)
    assert (training.steps, training.checkpoint_every, training.batches) == (6000, 100, "random")
    assert (training.weight_decay, training.clip_norm, training.schedule) == (0.0, 0.0, "constant")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainin.steps=3", "no section 'trainin'; did you mean 'training'"),
        ("training.stps=3", "unknown key 'training.stps'; did you mean 'training.steps'"),
        ("training.steps=abc", "training.steps should be int, not 'abc'"),
        ("training.steps=0", "training.steps should be greater than or equal to 1, not 0"),
        ("training.steps=1.5", "training.steps"),
        ("sampling.precision=fp8", "'int8', 'float32' or 'bfloat16', not 'fp8'"),
        ("corpus.source=[1]", "corpus.source"),
        ("training=3", "expected section.key=value"),
        ("training.steps=[", "not a valid YAML value"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override: str, expected: str) -> None:
    with pytest.raises(RequestError) as caught:
        load(None, [override])
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: [", "line 1: not valid YAML"),
        ("- 1", "expected sections"),
        ("training: 3", "training should be"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("modle:\n  layers: 2", "unknown key 'modle'; did you mean 'model'"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        load(path)
    assert str(path) in str(caught.value) and expected in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="UTF-8"):
        load(tmp_path / "b.yaml")


def test_only_settings_with_a_meaning_count_as_differences() -> None:
    other = load(None, ["sampling.slots=3", "training.checkpoint_every=7", "tracking.project=x"])
    assert differences(Config(), other) == []
    other = load(None, ["training.seed=5", "model.layers=2"])
    assert differences(Config(), other) == [("model.layers", 1, 2), ("training.seed", 0, 5)]
    assert differences(Config(), other, ["model"]) == [("model.layers", 1, 2)]

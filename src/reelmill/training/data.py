"""What is trained and evaluated on: the corpus as numbers, made by the main process and opened by all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from reelmill import durable
from reelmill.config import Config
from reelmill.corpus.build import BuiltCorpus, load_or_build
from reelmill.corpus.encoded import EncodedTunes, encode_tunes, open_encoded, transposed_copies
from reelmill.corpus.vocabulary import Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.layout import is_run
from reelmill.model import VOCABULARY, TrainedModel
from reelmill.randomness import keyed_permutation
from reelmill.runs import TEST_TUNES, Checkpoint, load_model, load_vocabulary

_ABANDONED = 24 * 3600.0  # seconds since anything in it was written


@dataclass(frozen=True)
class TrainingData:
    """Tunes to train on and to evaluate on. ``validation`` is None if the corpus holds none out."""

    vocabulary: Vocabulary
    train: EncodedTunes
    validation: EncodedTunes | None


def prepare_data(config: Config, run: Path, checkpoint: Checkpoint | None) -> dict[str, str]:
    """Make whatever is missing, the run's vocabulary and test tunes; return what ``open_data`` wants.

    For the main process. RequestError for a full disk, if the tunes are no longer those that ``checkpoint``
    was trained on, and if ``training.init_from`` has not all characters of the tunes.
    """
    corpus = load_or_build(config.corpus)
    place = corpus.directory if os.access(corpus.directory, os.W_OK) else run
    place = place / "encoded"
    try:
        place.mkdir(exist_ok=True)
        return _prepared(config, run, checkpoint, corpus, place)
    except OSError as error:
        durable.raise_explained(error, place)


def _prepared(
    config: Config, run: Path, checkpoint: Checkpoint | None, corpus: BuiltCorpus, place: Path
) -> dict[str, str]:
    validation = _some(corpus.tunes["validation"], config.training.evaluation_tunes)
    _remove_abandoned(place)
    with durable.scratch(place) as scratch:
        train = corpus.tunes["train"].select_columns(["text"])
        if config.training.transpose:
            train = transposed_copies(train, scratch / "copies.arrow", config.corpus.processes(len(train)))
        if checkpoint is None:
            texts = (text for copies in _copies(train) for text in copies)
            vocabulary = _new_vocabulary(config, Vocabulary.from_texts(texts))
            vocabulary.save(run / VOCABULARY)
            _keep_test_tunes(run, corpus.tunes["test"])
        else:
            vocabulary = load_vocabulary(run, checkpoint)
        directories = {"train": str(_encoded(train, vocabulary, place))}
        if len(validation):
            directories["validation"] = str(_encoded(validation, vocabulary, place))
    seen = open_encoded(Path(directories["train"])).sha256
    if checkpoint is not None and checkpoint.state.get("data_sha256") != seen:
        raise RequestError(
            f"{run}: the training tunes are no longer those that {checkpoint.name} was trained on; "
            "put the old ones back (corpus.source), or use another run directory"
        )
    return directories


def _new_vocabulary(config: Config, of_tunes: Vocabulary) -> Vocabulary:
    """The vocabulary of the model to begin with, if there is one, else that of the tunes."""
    if not config.training.init_from:
        return of_tunes
    initial = initial_model(config).vocabulary
    missing = sorted(set(of_tunes.characters) - set(initial.characters))
    if missing:
        raise RequestError(
            f"training.init_from = {config.training.init_from!r}: its vocabulary lacks "
            f"{', '.join(map(repr, missing))} of the training tunes; begin with a model of tunes that have "
            "them, or without one"
        )
    return initial


def initial_model(config: Config) -> TrainedModel:
    """The model of ``training.init_from``: a run's best checkpoint, or a folder as ``songs/NAME/model``.

    RequestError if it is of another shape than ``model`` asks for.
    """
    place = Path(config.training.init_from)
    try:
        model = load_model(place) if is_run(place) else TrainedModel.load(place)
    except (RequestError, DamagedError) as error:
        raise type(error)(f"training.init_from: {error}") from None
    given, wanted = dataclasses.asdict(model.settings), dataclasses.asdict(config.model)
    wrong = [
        f"model.{key} is {given[key]} there, {wanted[key]} here"
        for key in wanted
        if key != "dropout" and given[key] != wanted[key]
    ]
    if wrong:
        raise RequestError(f"training.init_from = {str(place)!r}: {'; '.join(wrong)}; set what it has")
    return model


def _keep_test_tunes(run: Path, tunes: Any) -> None:
    """Write the held-out ``text`` of a data set of tunes into ``run``.

    A corpus may be built again and then be split in another way; what a run is judged by must not follow, or
    a tune that it was trained on would be among the new test tunes.
    """
    schema = pyarrow.schema([("text", pyarrow.string())])
    with (
        durable.replacing(run / TEST_TUNES) as partial,
        pyarrow.parquet.ParquetWriter(partial, schema) as file,
    ):
        for batch in tunes.iter(batch_size=1000):
            file.write_table(pyarrow.table({"text": batch["text"]}, schema=schema))


def _remove_abandoned(place: Path) -> None:
    """Remove what killed preparations left. Other runs may be preparing here, so not what is young."""
    for path in place.iterdir():
        if durable.is_temporary(path):
            with contextlib.suppress(FileNotFoundError):  # somebody else is removing it
                newest = max(item.stat().st_mtime for item in (path, *path.rglob("*")))
                if time.time() - newest > _ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)


def open_data(run: Path, directories: dict[str, str]) -> TrainingData:
    """Open what ``prepare_data`` made."""
    return TrainingData(
        Vocabulary.load(run / VOCABULARY),
        open_encoded(Path(directories["train"])),
        open_encoded(Path(directories["validation"])) if "validation" in directories else None,
    )


def _encoded(texts: Any, vocabulary: Vocabulary, place: Path) -> Path:
    key = json.dumps([vocabulary.to_json(), texts._fingerprint, len(texts)])
    directory = place / hashlib.sha256(key.encode()).hexdigest()[:16]
    if directory.exists():
        try:
            durable.verify_directory(directory)
            return directory
        except DamagedError:
            directory.rename(durable.temporary(directory))  # another run may have it open
    encode_tunes(_copies(texts), vocabulary, directory)
    return directory


def _copies(texts: Any) -> Iterator[list[str]]:
    """Each tune of a data set with its copies, read in pieces."""
    for batch in texts.iter(batch_size=1000):
        yield from batch["copies"] if "copies" in batch else ([text] for text in batch["text"])


def _some(tunes: Any, count: int) -> Any:
    tunes = tunes.select_columns(["text"])
    if count == 0 or len(tunes) <= count:
        return tunes
    return tunes.select(np.sort(keyed_permutation(len(tunes), 0)[:count]).tolist())

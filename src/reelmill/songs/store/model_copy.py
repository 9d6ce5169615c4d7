"""The model's copy in a songs directory, and the hash by which a plan names its model."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.errors import DamagedError
from reelmill.model import TrainedModel, weights_of
from reelmill.songs.store.plan import model_path
from reelmill.training.settings import ModelSettings


def model_hash(model: TrainedModel) -> str:
    """SHA-256 of what a model is: settings, vocabulary and every weight; not of any file's format."""
    digest = hashlib.sha256()
    about = [_shape(model.settings), model.vocabulary.to_json()]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(weights_of(model.network).items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def _shape(settings: ModelSettings) -> dict[str, Any]:
    """The settings of a model, without those that are off and that plans of earlier versions do not know."""
    shape = dataclasses.asdict(settings)
    if not settings.position:
        del shape["position"]
    if not settings.pointer:
        del shape["pointer"], shape["pointer_window"]
    return shape


def keep_model(directory: Path, model: TrainedModel) -> None:
    """Put a copy of ``model`` into a songs directory, unless an intact one is there. Any number may race."""
    path = model_path(directory)
    with contextlib.suppress(DamagedError):
        durable.verify_directory(path)
        return
    if path.exists():
        with contextlib.suppress(FileNotFoundError):
            aside = durable.temporary(path)
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    try:
        with durable.creating_directory(path, {"model": model_hash(model)}) as partial:
            model.save(partial)
    except OSError:
        durable.verify_directory(path)  # another worker was faster


def kept_model(directory: Path, expected: str) -> TrainedModel:
    """The model's copy in a songs directory; DamagedError unless it is the one the plan names."""
    path = model_path(directory)
    durable.verify_directory(path)
    model = TrainedModel.load(path)
    if model_hash(model) != expected:
        raise DamagedError(f"{path}: not the model that the plan names ({expected[:12]})")
    return model

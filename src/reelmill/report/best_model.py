"""What a run's page says of its best model: bits per character of the test tunes, and songs as they come."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from reelmill import durable
from reelmill.audio.render import renderer
from reelmill.config import Config
from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.evaluation import evaluate_run
from reelmill.model import WEIGHTS, TrainedModel
from reelmill.notation.validity import numbered
from reelmill.report.songs import Song
from reelmill.runs import Checkpoint, find_checkpoint, load_model, run_config
from reelmill.sampling.engine import Attempt, Engine
from reelmill.songs.make.validate import Validated, validate
from reelmill.songs.store.prompts import prompt_text
from reelmill.songs.store.sound import record

SONGS = 8
_FILE = "test.json"  # what testing took minutes to find, for the next page
_log = logging.getLogger(__name__)


def best_model(run: Path) -> tuple[Checkpoint, dict[str, Any] | None, list[Song]]:
    """The best checkpoint of a run that has one, its test figures (as ``evaluate_run``), and its songs.

    The songs are the first attempts of so many, none chosen. What cannot be had is a warning.
    """
    found = find_checkpoint(run)
    try:
        scores = _test(run, found)
    except (RequestError, DamagedError) as error:
        _log.warning("no figure of the test tunes: %s", error)
        scores = None
    try:
        songs = _songs(load_model(run, found.name), run_config(run))
    except (RequestError, IncompleteError, ValueError) as error:
        _log.warning("no songs of the best model: %s", error)
        songs = []
    return found, scores, songs


def _test(run: Path, found: Checkpoint) -> dict[str, Any]:
    weights = durable.sha256(found.directory / WEIGHTS)
    try:
        kept = durable.read_json(run / _FILE)
        if kept["weights"] == weights:
            return dict(kept)
    except (DamagedError, KeyError, TypeError):
        pass
    scores = {**evaluate_run(run, found.name), "weights": weights}
    durable.write_json(run / _FILE, scores)
    return scores


def _songs(model: TrainedModel, config: Config) -> list[Song]:
    engine = Engine(model, dataclasses.replace(config.sampling, slots=SONGS), config.training.seed)
    prompts, longest = config.songs.prompts or [""], config.sampling.max_length
    for song in range(SONGS):
        engine.submit(Attempt(song, prompt=prompt_text(prompts[song % len(prompts)])))
    validated: dict[int, Validated] = {}
    while engine.active:
        for sampled in engine.step().sampled(model.vocabulary):
            text = numbered(sampled.text, sampled.song)
            validated[sampled.song] = validate(text, sampled.ended, longest, config.audio.tempo)
    return [
        _with_sound(song, validated[song], config) for song in range(SONGS) if not validated[song].encoding
    ]


def _with_sound(song: int, validated: Validated, config: Config) -> Song:
    facts = validated.facts(song, 1)
    if validated.midi:
        return Song(facts=facts)
    try:
        sound = record(facts, validated.data, renderer(config.audio), config.audio)
    except RequestError as error:
        _log.warning("songs without sound: %s", error)
        return Song(facts=facts, midi=validated.data)
    return Song(facts=sound.facts, audio=bytes(sound.data), midi=validated.data)

"""``reelmill collect``: index.parquet, summary.json and the dataset card, from finished shards.

All of it is a function of what the directory holds, and of the corpus if it is built on this machine: songs
are compared with its tunes. So collecting again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill import durable
from reelmill.errors import DamagedError, IncompleteError
from reelmill.layout import INDEX
from reelmill.songs.make.reference import corpus_settings, read_tunes, training_music, write_tunes
from reelmill.songs.results.analysis import MUSIC_COLUMNS, Together, analyse
from reelmill.songs.results.card import GITIGNORE, dataset_card
from reelmill.songs.results.summary import Summary
from reelmill.songs.store.manifest import KINDS, Kind, check, tar_path
from reelmill.songs.store.plan import Plan, read_plan
from reelmill.songs.store.song import SOUND_COLUMNS, TABLE_COLUMNS, as_row
from reelmill.songs.store.tar import read_some
from reelmill.songs.store.totals import count_half

SUMMARY, CARD = "summary.json", "README.md"

_SHOWN = 10


def collect(directory: Path, audio: bool = True) -> dict[str, Any]:
    """Write the index, the summary and the card of a complete songs directory, and which of its files are not
    for uploading; returns the summary.

    The index has one row a song, in order of ids, a row group a shard. Without ``audio`` it is of the text
    alone. Raises IncompleteError that names what is missing or disagrees with its manifest (``verify`` looks
    at every byte).
    """
    plan = read_plan(directory)
    plan = plan if audio else replace(plan, audio=False)
    kinds = KINDS if plan.audio else KINDS[:1]
    sizes = _require_complete(directory, plan, kinds)
    schema = _schema(plan.audio)
    summary = Summary()
    together = Together()
    corpus = corpus_settings(directory, plan)
    music = training_music(corpus) if corpus else None
    if corpus:
        write_tunes(directory, corpus)
    read = partial(_rows, directory, plan)
    with (
        durable.replacing(directory / INDEX) as path,
        pq.ParquetWriter(path, schema, compression="zstd") as index,
    ):
        for shard in analyse(plan.shards, plan.songs, read, corpus, music):
            together.add(shard)
            for row in shard.rows:
                summary.add(row)
            if shard.rows:
                index.write_table(pa.Table.from_pylist(shard.rows, schema))
    text, sound = count_half(directory, plan, "text"), count_half(directory, plan, "audio")
    facts = {
        **summary.to_json(plan, text, sound, sizes),
        "training_tunes": read_tunes(directory),
        "corpus": corpus.source if corpus else (read_tunes(directory) or {}).get("source"),
        "music": together.to_json(music),
    }
    durable.write_json(directory / SUMMARY, facts)
    durable.write_text(directory / CARD, dataset_card(directory.resolve().name, plan, facts))
    durable.write_text(directory / ".gitignore", GITIGNORE)
    return facts


def _schema(audio: bool) -> pa.Schema:
    """The columns of the index; those of the sound are null for a song without."""
    columns = {
        "id": "int64",
        "shard": "int32",
        **TABLE_COLUMNS,
        **MUSIC_COLUMNS,
        **(SOUND_COLUMNS if audio else {}),
    }
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def _require_complete(directory: Path, plan: Plan, kinds: tuple[Kind, ...]) -> dict[str, int]:
    """Bytes in tars by kind; IncompleteError unless every shard counts."""
    sizes = dict.fromkeys(kinds, 0)
    problems: list[str] = []
    for kind in kinds:
        for number in range(plan.shards):
            try:
                sizes[kind] += check(directory, kind, number, plan.first(number), plan.count(number)).bytes
            except DamagedError as error:
                problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise IncompleteError(
            "\n".join(
                [
                    f"{directory}: not complete; reelmill generate {directory} goes on",
                    *problems[:_SHOWN],
                    *more,
                ]
            )
        )
    return {str(kind): size for kind, size in sizes.items()}


def _rows(directory: Path, plan: Plan, number: int) -> list[dict[str, Any]]:
    heard: dict[int, dict[str, Any]] = {}
    if plan.audio:
        for facts in _facts(tar_path(directory, "audio", number)):
            heard[facts["id"]] = {name: facts[name] for name in SOUND_COLUMNS}
    silence: dict[str, Any] = dict.fromkeys(SOUND_COLUMNS) if plan.audio else {}
    return [
        {**as_row(facts), "shard": number, **heard.get(facts["id"], silence)}
        for facts in _facts(tar_path(directory, "text", number))
    ]


def _facts(path: Path) -> Iterator[dict[str, Any]]:
    """What the ID.json of each song in a tar says."""
    for name, data in read_some(path, lambda name: name.endswith(".json")):
        try:
            facts = json.loads(data)
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or not isinstance(facts.get("id"), int):
            raise DamagedError(f"{path}: {name} is not what it should be")
        yield facts

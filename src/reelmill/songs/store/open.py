"""``reelmill.open_songs``: a songs directory as a ``datasets.IterableDataset``, sound decoded.

Gives what ``datasets.load_dataset("webdataset", …)`` gives, with the facts of each song as columns, and needs
neither torchcodec nor FFmpeg.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelmill.audio.encode import decode
from reelmill.errors import RequestError
from reelmill.songs.store.manifest import Kind, shard_numbers, tar_path
from reelmill.songs.store.plan import read_plan
from reelmill.songs.store.tar import TarReader

if TYPE_CHECKING:
    import datasets


def open_songs(directory: str | Path, audio: bool | None = None) -> datasets.IterableDataset:
    """The finished songs of a directory, in order of ids, read from disk as they are asked for.

    Columns are the keys of ID.json (``id``, ``abc``, ``notes`` …) and ``midi_file`` (bytes) or,
    with ``audio``, a dict ``audio``: ``array`` is the mean of the channels, float32 [time] in [-1, 1);
    ``samples`` are int16 [time, channels]; ``sampling_rate`` is in hertz. By default sound is read where
    there is any. Shards are the unit of ``shuffle`` and of several data loader processes.
    """
    import datasets

    directory = Path(directory)
    read_plan(directory)
    if audio is None:
        audio = bool(shard_numbers(directory, "audio"))
    kind: Kind = "audio" if audio else "text"
    tars = [str(tar_path(directory, kind, number)) for number in sorted(shard_numbers(directory, kind))]
    if not tars:
        raise RequestError(f"{directory}: no finished {kind} shard")
    return datasets.IterableDataset.from_generator(_songs, gen_kwargs={"tars": tars})


def read_songs(tar: Path) -> Iterator[dict[str, Any]]:
    """The songs of one shard of either half; DamagedError where its bytes are not a shard's."""
    song: dict[str, Any] = {}
    for name, data in TarReader(tar):
        extension = name.partition(".")[2]
        if extension == "json":
            song = json.loads(data)
        elif extension == "mid":
            yield {**song, "midi_file": data}
        elif extension != "abc":
            yield {**song, "audio": _decoded(data)}


def _songs(tars: Sequence[str]) -> Iterator[dict[str, Any]]:
    for tar in tars:
        yield from read_songs(Path(tar))


def _decoded(data: bytes) -> dict[str, Any]:
    samples, rate = decode(data)
    array = (samples.mean(axis=1, dtype=np.float32) / np.float32(32768)).astype(np.float32)
    return {"array": array, "samples": samples, "sampling_rate": rate}

"""A built corpus: canonical tunes, split by duplicate cluster, with statistics.

Where it lies, a corpus looks like this; a version is complete or not there, and ``current.json`` names the
one that counts. Building again makes another version, in which every tune that had a side keeps it:

    current.json                version, fingerprint of sources, settings and code, how tunes are split
    version-4f0c…/
      tunes/                  a Dataset (text, source, cluster, index): training, validation, test tunes
      assignment.parquet      identity of each body ever assigned, and its side
      statistics.json  manifest.json
      music.parquet           melodies and figures of the tunes, once songs have been compared with them
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
from filelock import FileLock

import reelmill.corpus
import reelmill.music
import reelmill.notation
from reelmill import durable
from reelmill.cache import cache_directory
from reelmill.corpus import named
from reelmill.corpus.division import Division, divide
from reelmill.corpus.examine import examine
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.sources import Source, find_sources, fingerprint, read_sources
from reelmill.corpus.split import SIDES
from reelmill.corpus.statistics import summarize
from reelmill.errors import DamagedError, RequestError

_SPLIT_KEYS = ("similarity", "validation_fraction", "test_fraction", "split_seed")
_MEANING = ("text_column", "fields", "max_tune_length", *_SPLIT_KEYS)


@dataclass(frozen=True)
class BuiltCorpus:
    """``tunes`` has the splits train, validation and test with the columns text, source, cluster and index.

    ``cluster`` is the same for near-duplicates; ``index`` is the place among all kept tunes in the order of
    the sources. ``directory`` is where it lies, ``version`` where this version of it does.
    """

    tunes: datasets.DatasetDict
    statistics: dict[str, Any]
    directory: Path
    version: Path


@dataclass(frozen=True)
class Tune:
    """One tune of a built corpus."""

    text: str
    source: str
    cluster: str
    split: str


def corpus_directory(settings: CorpusSettings) -> Path:
    """Where the corpus of these settings lies: ``settings.directory``, or a place of its own in the cache.

    In the cache the place depends on the code too, so that one version of reelmill makes one split on every
    machine. In a directory of one's own, sides are kept across versions.
    """
    if settings.directory:
        return Path(settings.directory).expanduser().absolute()
    meaning: dict[str, Any] = {key: getattr(settings, key) for key in _MEANING}
    sources = [settings.source] if isinstance(settings.source, str) else settings.source
    meaning["source"] = [_absolute(source) for source in sources]
    meaning["code"] = _code()
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return cache_directory() / "corpora" / digest[:16]


def load_or_build(settings: CorpusSettings) -> BuiltCorpus:
    """The corpus of ``settings``, built only if it is not there or local sources have changed since.

    Any number of processes may ask at once: one builds, the others wait. Raises what ``build`` raises.
    """
    directory = corpus_directory(settings)
    return _load(directory, _fingerprint(settings, find_sources(settings))) or build(settings, refresh=False)


def build(settings: CorpusSettings, refresh: bool = True) -> BuiltCorpus:
    """Read the sources, drop, cluster and split, and keep the result in ``corpus_directory(settings)``.

    What is there already is returned as it is when the sources are the same; with ``refresh`` hub data sets
    are asked again, since only they can change unseen. Raises RequestError for sources that are missing,
    unreadable or without one valid tune (with the reasons counted), for a directory whose tunes are split in
    another way, and for a full disk.
    """
    if settings.validation_fraction + settings.test_fraction >= 1:
        raise RequestError("corpus.validation_fraction + corpus.test_fraction leave nothing to train on")
    sources = find_sources(settings)
    mark = _fingerprint(settings, sources)
    directory = corpus_directory(settings)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            built = _load(directory, mark)
            if built is None or (refresh and any(source.kind == "hub" for source in sources)):
                _write(directory, settings, mark)
                built = _load(directory, mark)
    except datasets.exceptions.DatasetGenerationError as error:
        durable.raise_explained(error.__cause__ or error, directory)
    except OSError as error:
        durable.raise_explained(error, directory)
    assert built is not None  # it has just been written
    return built


def tune_at(settings: CorpusSettings, index: int) -> Tune:
    """The tune at ``index`` (from 0) of all kept tunes in the order of the sources; RequestError past it."""
    corpus = load_or_build(settings)
    for split, tunes in corpus.tunes.items():
        place = np.flatnonzero(tunes.data.column("index").to_numpy() == index)
        if len(place):
            row = tunes[int(place[0])]
            return Tune(row["text"], row["source"], row["cluster"], split)
    last = sum(map(len, corpus.tunes.values())) - 1
    raise RequestError(f"there is no tune {index}; the corpus has tunes 0 to {last}")


def _load(directory: Path, mark: str) -> BuiltCorpus | None:
    """What lies in ``directory`` if it was built from ``mark``; DamagedError if that is not intact."""
    current = _current(directory)
    if current is None or current["fingerprint"] != mark:
        return None
    version = directory / current["version"]
    try:
        durable.verify_directory(version)
    except DamagedError as error:
        raise DamagedError(f"{error}; remove {directory} to build the corpus anew") from None
    statistics = durable.read_json(version / "statistics.json")
    return BuiltCorpus(_load_tunes(version / "tunes", statistics["tunes"]), statistics, directory, version)


def _current(directory: Path) -> dict[str, Any] | None:
    path = directory / "current.json"
    return durable.read_json(path) if path.exists() else None


def _write(directory: Path, settings: CorpusSettings, mark: str) -> None:
    """Build a version and make it the current one; keep the one before, which readers may have open."""
    before = _current(directory)
    split = {key: getattr(settings, key) for key in _SPLIT_KEYS}
    for key, value in (before or {"split": split})["split"].items():
        if split[key] != value:
            raise RequestError(
                f"{directory}: its tunes are split with corpus.{key} = {value}, not {split[key]}; "
                "choose another corpus.directory"
            )
    earlier = _read_assignment(directory / before["version"]) if before else {}
    version = f"version-{secrets.token_hex(6)}"
    with _scratch(directory) as scratch, _quiet_unless_watched():
        examined = examine(read_sources(settings, scratch), settings)
        parts = divide(examined, settings, earlier)
        with durable.creating_directory(directory / version) as partial:
            _save_tunes(examined, parts, partial / "tunes")
            _write_assignment(partial, earlier, parts)
            durable.write_json(partial / "statistics.json", summarize(examined, parts))
    durable.write_json(directory / "current.json", {"version": version, "fingerprint": mark, "split": split})
    for path in directory.glob("version-*"):
        if path.name not in (version, (before or {}).get("version")):
            shutil.rmtree(path, ignore_errors=True)


def _save_tunes(examined: datasets.Dataset, parts: Division, path: Path) -> None:
    """One data set, side after side: an empty one among several could not be loaded again."""
    kept = parts.sides >= 0
    tunes = (
        examined.select_columns(["text", "source"])
        .select(parts.rows[kept])
        .add_column("cluster", [f"{cluster:016x}" for cluster in parts.clusters[kept].tolist()])
        .add_column("index", np.arange(kept.sum()))
    )
    tunes.select(np.argsort(parts.sides[kept], kind="stable")).save_to_disk(str(path))


def _load_tunes(path: Path, counts: dict[str, int]) -> datasets.DatasetDict:
    tunes = datasets.load_from_disk(str(path))
    ends = np.cumsum([counts[name] for name in SIDES])
    return datasets.DatasetDict(
        {
            # An empty range is selected from 0: datasets refuses one that begins behind the last row.
            name: tunes.select(range(end - counts[name], end) if counts[name] else range(0))
            for name, end in zip(SIDES, ends, strict=True)
        }
    )


def _write_assignment(directory: Path, earlier: dict[int, int], parts: Division) -> None:
    """Bodies that are no longer in the sources stay assigned: they may come back."""
    kept = parts.sides >= 0
    now = dict(zip(parts.identities[kept].tolist(), parts.sides[kept].tolist(), strict=True))
    assigned = sorted({**earlier, **now}.items())
    table = pyarrow.table(
        {
            "identity": pyarrow.array([key for key, _ in assigned], pyarrow.int64()),
            "side": pyarrow.array([SIDES[side] for _, side in assigned]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, directory / "assignment.parquet")


def _read_assignment(directory: Path) -> dict[int, int]:
    durable.verify_directory(directory)
    table = pyarrow.parquet.read_table(directory / "assignment.parquet")
    sides = [SIDES.index(side) for side in table.column("side").to_pylist()]
    return dict(zip(table.column("identity").to_pylist(), sides, strict=True))


def _fingerprint(settings: CorpusSettings, sources: list[Source]) -> str:
    """Changes when the local sources, a setting that means something, or the code that builds changes."""
    total = hashlib.sha256(fingerprint(sources).encode())
    total.update(json.dumps([getattr(settings, key) for key in _MEANING]).encode())
    total.update(_code().encode())
    return total.hexdigest()


@functools.cache
def _code() -> str:
    """SHA-256 of the code that decides what a tune is and where it goes."""
    total = hashlib.sha256()
    for room in (reelmill.corpus, reelmill.music, reelmill.notation):
        for file in sorted(Path(room.__path__[0]).glob("*.py")):
            total.update(file.read_bytes())
    return total.hexdigest()


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return source if source in named.NAMES or not path.exists() else str(path.absolute())


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A place for memory-mapped intermediate results; what a killed build left there is removed first."""
    for path in directory.iterdir():
        if durable.is_temporary(path):
            shutil.rmtree(path, ignore_errors=True)
    with durable.scratch(directory) as scratch:
        yield scratch


@contextlib.contextmanager
def _quiet_unless_watched() -> Iterator[None]:
    """Progress bars only on a terminal."""
    if sys.stderr.isatty() or datasets.utils.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()

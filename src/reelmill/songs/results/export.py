"""``reelmill export``: songs that a condition picks from index.parquet, as files that other programs open.

The condition is an SQL expression over the columns of the index. DuckDB evaluates it in memory: nothing it
says can read or write a file, and it may take so much memory and time and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset

from reelmill import durable
from reelmill.audio.encode import encode
from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.layout import INDEX
from reelmill.notation.header import header
from reelmill.songs.store.manifest import manifest_path, member_name, tar_path
from reelmill.songs.store.open import Rendered, Row, read_songs, require_planned_instruments
from reelmill.songs.store.plan import Plan, read_plan

SECONDS = 60.0  # that a condition may take
_ENGINE: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "memory_limit": "1GB",
    "lock_configuration": True,
}
_EXTENSIONS = {"midi": ".mid", "wav": ".wav", "musicxml": ".musicxml"}


@dataclass(frozen=True)
class Exported:
    """``path``: the book or folder; ``left_out``: ids of chosen songs that have no file, and why."""

    path: Path
    songs: int
    left_out: dict[int, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {"path": str(self.path), "songs": self.songs, "left_out": self.left_out}

    def describe(self) -> str:
        """The songs left out, and how many are there."""
        lines = [f"song {song}: {reason}" for song, reason in self.left_out.items()]
        return "\n".join([*lines, f"{self.path}: {self.songs:,} song{'s' if self.songs != 1 else ''}"])


def export(directory: Path, to: Path, where: str = "true", limit: int | None = None) -> Exported:
    """Write the first ``limit`` songs, in order of ids, for which ``where`` holds.

    ``to`` is a new book (NAME.abc), or a new folder whose name says what goes in: midi, wav or musicxml.
    Sound is what is stored, or else rendered. Raises RequestError for a wrong request and IncompleteError
    where no song matches; nothing is written then.
    """
    plan = read_plan(directory)
    kind = _kind(to)
    chosen = choose(directory, where, limit)
    if not chosen:
        raise IncompleteError(f"{directory}: no song matches --where {where!r}")
    left_out = {song: "no sound" if kind == "wav" else "" for song, _ in chosen}
    to.parent.mkdir(parents=True, exist_ok=True)
    if kind == "abc":
        songs = list(_read(directory, plan, kind, chosen))
        durable.write_text(to, "\n".join(song["abc"] for song in songs))
        return Exported(to, len(songs), {})
    with durable.filling_directory(to) as partial:
        for song in _read(directory, plan, kind, chosen):
            try:
                data = _file(kind, song, plan)
            except ValueError as error:
                left_out[song["id"]] = str(error)
                continue
            (partial / f"{member_name(song['id'])}{_EXTENSIONS[kind]}").write_bytes(data)
            del left_out[song["id"]]
        if len(left_out) == len(chosen):
            raise IncompleteError(f"{to}: none of {len(chosen)} songs has a file: {left_out[chosen[0][0]]}")
    return Exported(to, len(chosen) - len(left_out), left_out)


def choose(directory: Path, where: str, limit: int | None) -> list[tuple[int, int]]:
    """(id, shard) of the songs of index.parquet for which ``where``, an SQL expression, holds.

    Raises RequestError if it is no such expression, or if it takes longer than ``SECONDS``.
    """
    path = directory / INDEX
    if not path.is_file():
        raise RequestError(f"{directory}: no {INDEX} yet; `reelmill collect {directory}` writes it")
    if limit is not None and limit < 1:
        raise RequestError(f"--limit {limit}: at least 1 song")
    try:
        index = pyarrow.dataset.dataset(path)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: not a Parquet file ({error})") from None
    with duckdb.connect(":memory:", config=_ENGINE) as engine:
        clock = threading.Timer(SECONDS, engine.interrupt)
        clock.start()
        try:
            found = engine.from_arrow(index).filter(where).select("id, shard").order("id")
            rows: list[tuple[int, int]] = (found.limit(limit) if limit else found).fetchall()
        except duckdb.InterruptException:
            raise RequestError(f"--where {where!r}: takes more than {SECONDS:.0f} seconds") from None
        except duckdb.Error as error:
            said = str(error).splitlines()[0]
            columns = ", ".join(index.schema.names)
            raise RequestError(f"--where {where!r}: {said}\ncolumns are: {columns}") from None
        finally:
            clock.cancel()
    return rows


def _kind(to: Path) -> str:
    """What goes to ``to``: a kind of file. RequestError if its name does not say, or if it exists."""
    kind = "abc" if to.suffix == ".abc" else to.name
    if kind not in ("abc", *_EXTENSIONS):
        raise RequestError(f"--to {to}: a book NAME.abc, or a folder that is called midi, wav or musicxml")
    if to.exists() and not (to.is_dir() and not any(to.iterdir()) and kind != "abc"):
        raise RequestError(f"--to {to}: exists already; remove it, or give another name")
    if kind == "musicxml":
        _require_music21()
    return kind


def _read(directory: Path, plan: Plan, kind: str, chosen: list[tuple[int, int]]) -> Iterator[Row]:
    """The chosen songs with what a file of ``kind`` is made of; for wav, those that have sound."""
    render: Rendered | None = None
    for shard, songs in groupby(chosen, key=lambda song: song[1]):
        ids = {song for song, _ in songs}
        if kind != "wav":
            yield from read_songs(tar_path(directory, "text", shard), ids)
        elif manifest_path(directory, "audio", shard).is_file():
            yield from read_songs(tar_path(directory, "audio", shard), ids)
        else:
            if render is None:
                require_planned_instruments(directory, plan)
                render = Rendered(plan.audio_settings)
            yield from render(tar_path(directory, "text", shard), ids)


def _file(kind: str, song: Row, plan: Plan) -> bytes:
    """The bytes of a song's file; ValueError says why there are none."""
    if kind == "midi":
        data: bytes = song["midi_file"]
        return data
    if kind == "wav":
        return encode(song["audio"]["samples"], replace(plan.audio_settings, format="wav"))
    return _musicxml(song["abc"])


def _require_music21() -> None:
    try:
        import music21  # noqa: F401
    except ImportError:
        raise RequestError(
            "--to musicxml: needs music21; pip install -c constraints.txt 'reelmill[musicxml]' has it"
        ) from None


def _musicxml(abc: str) -> bytes:
    from music21 import converter
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    if not {"M", "L"} & header(abc).keys():
        abc = abc.replace("\nK:", "\nL:1/8\nK:", 1)  # ABC 2.1, section 3.1.7
    try:
        score = converter.parse(abc, format="abc")
        score.metadata.composer = "reelmill"  # else "Music21"
        data: bytes = GeneralObjectExporter(score).parse()
    except Exception as error:  # whatever a parser of another's makes of sampled text
        raise ValueError(f"music21 cannot read it ({type(error).__name__}: {error})") from None
    return data

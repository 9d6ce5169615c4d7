"""The disk that songs will take, foretold from settings alone: no model is needed, and nothing is made.

Songs come out about as long as the tunes that were learnt. The figures were measured on 150 tunes of the
``irish`` corpus, whose tunes last longest for their characters (those of ``traditional`` two thirds as long),
rendered with symusic. ``estimate`` measures a model's own songs instead.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from reelmill import durable
from reelmill.audio.settings import AudioSettings
from reelmill.config import Config
from reelmill.corpus.settings import CorpusSettings
from reelmill.errors import DamagedError
from reelmill.room import free_bytes, size_text
from reelmill.songs.store.manifest import KINDS, Kind

CHARACTERS = 215  # of a tune of ``irish``, on average
SECONDS_A_CHARACTER = 0.174
_TEXT_BYTES, _TEXT_BYTES_A_CHARACTER = 2780, 9.5  # in a tar, with headers and filled blocks
_SOUND_BYTES = 3584  # in a tar, beside the sound itself: headers, ABC and JSON
TAKE_LESS = "audio.format=flac, audio.channels=1, audio.sample_rate=22050 or --no-audio take less"
_FLAC_RATES = (8000, 16000, 22050, 44100)
_FLAC_OF_WAV = {1: (0.80, 0.74, 0.68, 0.50), 2: (0.71, 0.65, 0.58, 0.41)}  # by channels, at those rates


@dataclass(frozen=True)
class Disk:
    """Bytes of all text tars and of all audio tars (0: no sound)."""

    text: int
    audio: int

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.text + self.audio


def foretell_disk(config: Config, songs: int, audio: bool = True) -> Disk:
    """What ``songs`` songs of these settings will take, their length taken from the corpus if it is built."""
    characters = min(_mean_tune(config.corpus), config.sampling.max_length)
    text = _TEXT_BYTES + _TEXT_BYTES_A_CHARACTER * characters
    sound = 0.0
    if audio:
        sound = _SOUND_BYTES + SECONDS_A_CHARACTER * characters * _bytes_a_second(config.audio)
    return Disk(round(songs * text), round(songs * sound))


def disk_of_shards(directory: Path, config: Config, songs: int, audio: bool = True) -> Disk | None:
    """The same from the shards that a songs directory has already; None if a half asked for has none."""
    shards = -(-songs // config.songs.songs_per_shard)
    wanted = KINDS if audio else KINDS[:1]
    sizes = {kind: _tar_sizes(directory, kind) for kind in wanted}
    if not all(sizes.values()):
        return None
    return Disk(*(round(shards * fmean(sizes[kind])) if kind in wanted else 0 for kind in KINDS))


def describe_disk(directory: Path, songs: int, disk: Disk, basis: str) -> str:
    """A line for a person: what ``songs`` songs take, what of it is there, and whether the rest has room."""
    there = sum(sum(_tar_sizes(directory, kind)) for kind in KINDS)
    free = free_bytes(directory)
    halves = f"{size_text(disk.text)} of text"
    halves += f" and {size_text(disk.audio)} of sound" if disk.audio else ""
    line = f"{songs:,} songs take about {halves} ({basis})"
    line += f", of which {size_text(there)} are there" if there else ""
    line += f"; {size_text(free)} are free at {directory}"
    return line if disk.total - there < free else f"{line}: that does not fit; {TAKE_LESS}"


def _tar_sizes(directory: Path, kind: Kind) -> list[int]:
    sizes = []
    for path in (directory / kind).glob("shard-*.tar"):
        with suppress(FileNotFoundError):  # a worker has set it aside
            sizes.append(path.stat().st_size)
    return sizes


def _mean_tune(settings: CorpusSettings) -> float:
    """Characters of a training tune, from the statistics of the corpus if it is built."""
    from reelmill.corpus.build import corpus_directory  # datasets comes with it

    directory = corpus_directory(settings)
    try:
        version = durable.read_json(directory / "current.json")["version"]
        statistics = durable.read_json(directory / version / "statistics.json")
        return float(statistics["characters"]["train"] / statistics["tunes"]["train"])
    except (DamagedError, KeyError, TypeError, ZeroDivisionError):
        return CHARACTERS  # not built yet, or damaged, which whoever builds it will say


def _bytes_a_second(settings: AudioSettings) -> float:
    wav = 2.0 * settings.sample_rate * settings.channels
    if settings.format == "wav":
        return wav
    return wav * float(np.interp(settings.sample_rate, _FLAC_RATES, _FLAC_OF_WAV[settings.channels]))

"""``reelmill.open_songs``: a songs directory as a ``datasets.IterableDataset``, with its sound.

Sound is decoded from the audio half or rendered from the text half, a hundredth of a second a song, which is
less than reading ten megabytes from most disks that are shared. Neither needs torchcodec or FFmpeg.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
from datasets.iterable_dataset import ExamplesIterable
from numpy.typing import NDArray

from reelmill.audio.encode import decode
from reelmill.audio.render import instruments, renderer
from reelmill.audio.settings import AudioSettings
from reelmill.errors import RequestError
from reelmill.songs.store.manifest import Kind, read_manifest, shard_numbers, tar_path
from reelmill.songs.store.plan import Plan, plan_path, read_plan
from reelmill.songs.store.song import SOUND_COLUMNS, TABLE_COLUMNS, as_row
from reelmill.songs.store.sound import NoSound, play
from reelmill.songs.store.tar import TarReader, read_some

Row = dict[str, Any]


def open_songs(
    directory: str | Path, audio: bool | Literal["render"] | None = None
) -> datasets.IterableDataset:
    """The finished songs of a directory, in order of ids, read from disk as they are asked for.

    Columns are those of the index (``id``, ``abc``, ``notes`` …) and ``midi_file`` (bytes) or, with
    ``audio``, a dict ``audio``: ``array`` is the mean of the channels, float32 [time] in [-1, 1);
    ``samples`` are int16 [time, channels]; ``sampling_rate`` is in hertz. ``audio`` is True for the sound
    that is stored, with its features; "render" for the same samples made from the text half by the plan's
    audio settings, without features (``audio.features`` has them); False for none; None for what is stored,
    if anything is. Songs without sound are left out where sound is asked for.

    Shards are the unit of ``shuffle`` and of several data loader processes. A minute in stereo is 20 MB: so
    much a song waits in ``shuffle``'s buffer, and goes from a loader's process to its parent unless ``map``
    keeps less of it. ``features`` are set, and ``info.splits["train"].num_examples`` is the number of songs;
    with "render" those that turn out to have no sound are counted.

    Raises RequestError at once where a program or the soundfont is missing, or is not the one that the stored
    sound was made with.
    """
    if audio not in (None, True, False, "render"):
        raise RequestError(f"open_songs: audio {audio!r}; valid are None, True, False, 'render'")
    directory = Path(directory)
    plan = read_plan(directory)
    if audio is None:
        audio = bool(shard_numbers(directory, "audio"))
    if audio == "render":
        require_planned_instruments(directory, plan)
        return _dataset(directory, "text", Rendered(plan.audio_settings), _columns(plan, "text", sound=True))
    kind: Kind = "audio" if audio else "text"
    return _dataset(directory, kind, read_songs, _columns(plan, kind, sound=bool(audio)))


def read_songs(tar: Path, ids: Container[int] | None = None) -> Iterator[Row]:
    """The songs of one shard of either half, or those with ``ids``; DamagedError where it is no shard."""
    song: Row = {}
    for name, data in TarReader(tar) if ids is None else read_some(tar, lambda name: int(name[:9]) in ids):
        extension = name.partition(".")[2]
        if extension == "json":
            song = as_row(json.loads(data))
        elif extension == "mid":
            yield {**song, "midi_file": data}
        elif extension != "abc":
            yield {**song, "audio": _audio(*decode(data))}


class Rendered:
    """``read_songs`` of the text half with the sound rendered. Pickled, it makes itself a new renderer."""

    def __init__(self, settings: AudioSettings) -> None:
        self._settings = settings
        self._renderer = renderer(settings)

    def __reduce__(self) -> tuple[type[Rendered], tuple[AudioSettings]]:
        return Rendered, (self._settings,)

    def __call__(self, tar: Path, ids: Container[int] | None = None) -> Iterator[Row]:
        for song in read_songs(tar, ids):
            midi = song.pop("midi_file")
            try:
                with _rendering:
                    samples = play(song, midi, self._renderer)
            except NoSound:
                continue
            yield {**song, "audio": _audio(samples, self._settings.sample_rate)}


# ``shuffle`` reads several shards at once, a thread each, and a renderer is for one thread at a time.
_rendering = threading.Lock()


def _forget_other_threads() -> None:
    """Have a new lock in a forked process: the thread that held it is not there to release it."""
    global _rendering
    _rendering = threading.Lock()


os.register_at_fork(after_in_child=_forget_other_threads)


class _Songs(ExamplesIterable):
    """Songs whose ``features`` are known, so datasets does not turn each into lists to give it its types."""

    def __init__(
        self, features: datasets.Features, read: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        super().__init__(read, arguments)
        self._features = features

    @property
    def features(self) -> datasets.Features:
        return self._features

    @property
    def is_typed(self) -> bool:
        return True

    def shuffle_data_sources(self, generator: np.random.Generator) -> _Songs:
        return self._of(super().shuffle_data_sources(generator))

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> _Songs:
        return self._of(super().shard_data_sources(num_shards, index, contiguous))

    def reshard_data_sources(self) -> _Songs:
        return self._of(self)  # a shard is the smallest piece

    def _of(self, plain: ExamplesIterable) -> _Songs:
        return _Songs(self._features, plain.generate_examples_fn, plain.kwargs)


def _dataset(
    directory: Path, kind: Kind, read: Callable[[Path], Iterator[Row]], features: datasets.Features
) -> datasets.IterableDataset:
    numbers = sorted(shard_numbers(directory, kind))
    if not numbers:
        raise RequestError(f"{directory}: no finished {kind} shard")
    songs = sum(read_manifest(directory, kind, number).songs for number in numbers)
    tars = [str(tar_path(directory, kind, number)) for number in numbers]
    split = datasets.SplitInfo("train", num_examples=songs)
    info = datasets.DatasetInfo(features=features, splits=datasets.SplitDict({"train": split}))
    examples = _Songs(features, _examples, {"tars": tars, "read": read})
    return datasets.IterableDataset(examples, info=info, split=datasets.Split.TRAIN)


def _examples(tars: Sequence[str], read: Callable[[Path], Iterator[Row]]) -> Iterator[tuple[int, Row]]:
    for tar in tars:
        for song in read(Path(tar)):
            yield song["id"], song


def _columns(plan: Plan, kind: Kind, sound: bool) -> datasets.Features:
    names = {**TABLE_COLUMNS, **(SOUND_COLUMNS if kind == "audio" else {})}
    columns: dict[str, Any] = {name: datasets.Value(dtype) for name, dtype in names.items()}
    if not sound:
        return datasets.Features({**columns, "midi_file": datasets.Value("binary")})
    columns["audio"] = {
        "array": datasets.List(datasets.Value("float32")),
        "samples": datasets.Array2D(shape=(None, plan.audio_settings.channels), dtype="int16"),
        "sampling_rate": datasets.Value("int32"),
    }
    return datasets.Features(columns)


def require_planned_instruments(directory: Path, plan: Plan) -> None:
    """Refuse to render other samples than the plan's audio half has; the first to make sound may choose."""
    planned = plan.fingerprint.get("audio", {})
    lines = [
        f"{name} is {planned[name]!r} in the plan and {seen!r} here"
        for name, seen in instruments(plan.audio_settings).items()
        if planned.get(name, seen) != seen
    ]
    if lines:
        raise RequestError(
            f"{plan_path(directory)}: rendering here would not give the same sound: {'; '.join(lines)}. "
            "Install the plan's, or read the stored sound with audio=True"
        )


def _audio(samples: NDArray[np.int16], rate: int) -> Row:
    return {"array": _mean(samples), "samples": samples, "sampling_rate": rate}


def _mean(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """The mean of the channels of ``samples`` [time, channels], 1.0 being full scale: float32 [time], exact.

    ``samples.mean(axis=1)`` takes ten times as long: it adds up each pair by itself.
    """
    channels = samples.shape[1]
    mean = samples[:, 0].astype(np.float32)
    for channel in range(1, channels):
        mean += samples[:, channel]
    mean *= np.float32(1 / (channels * 32768))
    return mean

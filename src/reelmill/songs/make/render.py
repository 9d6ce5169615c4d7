"""``reelmill render``: sound for a songs directory that has text, or for tunes in plain ABC files."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reelmill import config as configuration
from reelmill import durable
from reelmill.audio.encode import encode, extension, listening_copy
from reelmill.audio.features import features
from reelmill.audio.midi import abc_to_midi
from reelmill.audio.render import Renderer, SilentAudio, renderer
from reelmill.audio.settings import AudioSettings
from reelmill.corpus.books import read_book
from reelmill.errors import RequestError
from reelmill.songs.make.launch import produce
from reelmill.songs.store.plan import grow_plan, plan_path, read_plan, require_equal
from reelmill.songs.store.totals import Outcome


def render_directory(
    directory: Path, overrides: Sequence[str] = (), shard: tuple[int, int] = (0, 1), progress: bool = True
) -> Outcome:
    """Make the audio half of one share of a songs directory, of the text that is there.

    Gives the tars that one pass gives. Who first asks for sound in a directory made without may still choose
    its settings (``overrides``); after that they are the plan's. Raises RequestError as ``generate`` does,
    and then nothing is planned.
    """
    plan = read_plan(directory)
    planned = configuration.to_dict(plan.config())
    config = configuration.from_dict(planned, str(plan_path(directory)), overrides)
    wanted = replace(plan, sampling=config.sampling, audio_settings=config.audio, songs_settings=config.songs)
    if not plan.audio:
        chosen = replace(config.audio, tempo=plan.audio_settings.tempo)  # the MIDI of its text has a tempo
        require_equal(directory, replace(plan, audio_settings=chosen), wanted)
        renderer(config.audio)  # a program or a soundfont that is missing is found out here
        plan = grow_plan(directory, audio=config.audio)  # or as somebody asked for sound just before
    require_equal(directory, plan, wanted)
    return produce(directory, plan, config, None, shard=shard, halves=("audio",), progress=progress)


@dataclass(frozen=True)
class Recording:
    """The sound of a tune: ``samples`` int16 [time, channels], and its features (see ``audio.features``)."""

    samples: NDArray[np.int16]
    features: dict[str, float]
    settings: AudioSettings

    @property
    def sample_rate(self) -> int:
        """In hertz."""
        return self.settings.sample_rate

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.sample_rate

    def _repr_html_(self) -> str:
        """A player, for notebooks."""
        data, media_type = listening_copy(self.samples, self.sample_rate)
        source = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
        return f'<audio controls preload="metadata" src="{source}"></audio>'

    def save(self, path: str | Path) -> None:
        """Write it to ``path``, a name that ends in .wav or .flac; RequestError for another."""
        kind = sound_format(Path(path))
        durable.write_bytes(Path(path), encode(self.samples, replace(self.settings, format=kind)))


def sound_format(path: Path) -> Literal["wav", "flac"]:
    """What a file of this name holds; RequestError if it is not a format that can be written."""
    kinds: dict[str, Literal["wav", "flac"]] = {".wav": "wav", ".flac": "flac"}
    if path.suffix.lower() not in kinds:
        raise RequestError(f"{path}: no {path.suffix or 'format'} is written; end the name in .wav or .flac")
    return kinds[path.suffix.lower()]


def is_file_name(out: Path) -> bool:
    """Whether ``--out`` names a file of sound, not a folder; RequestError if it cannot be written."""
    return bool(out.suffix) and not out.is_dir() and bool(sound_format(out))


def render_abc(abc: str, settings: AudioSettings, with_renderer: Renderer | None = None) -> Recording:
    """The sound of one tune. RequestError if it is no tune or cannot be heard.

    Errors of abc2midi that leave a playable MIDI file are passed over: people's tunes have them.
    """
    midi = abc_to_midi(abc, tempos=settings.tempo)
    if not midi.notes:
        raise RequestError(f"no tune: {midi.errors[0] if midi.errors else 'no notes'}")
    try:
        samples = (with_renderer or renderer(settings)).render(midi.data)
    except (SilentAudio, ValueError) as error:
        raise RequestError(f"no sound: {error}") from None
    return Recording(samples, features(samples, settings.sample_rate, midi), settings)


@dataclass(frozen=True)
class Rendered:
    """A tune of a file: where its sound lies and how long it is, or the ``problem`` that left it without."""

    path: Path
    problem: str
    seconds: float


def render_files(files: Sequence[Path], out: Path | None, settings: AudioSettings) -> Iterator[Rendered]:
    """Render every tune in ``files`` to the folder ``out`` (default: beside each file), one after the other.

    A file of one tune becomes NAME.wav, a book NAME-1.wav, NAME-2.wav … One tune may go to a file ``out``.
    """
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise RequestError(f"{', '.join(missing)}: no such file")
    to_file = out is not None and is_file_name(out)
    if out:
        (out.parent if to_file else out).mkdir(parents=True, exist_ok=True)
    shared = renderer(settings)
    for file in files:
        tunes = list(read_book(file))
        if not tunes:
            raise RequestError(f"{file}: no tune in it (a tune begins with X:)")
        for number, tune in enumerate(tunes, start=1):
            stem = file.stem if len(tunes) == 1 else f"{file.stem}-{number}"
            path = out if out and to_file else (out or file.parent) / f"{stem}{extension(settings)}"
            try:
                recording = render_abc(tune, settings, shared)
            except RequestError as error:
                yield Rendered(path, str(error), 0.0)
                continue
            recording.save(path)
            yield Rendered(path, "", recording.seconds)

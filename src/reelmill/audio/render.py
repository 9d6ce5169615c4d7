"""MIDI to samples: one small interface over three synthesizers.

Every song is scaled to the same peak, so none clips and its loudness says how dense it is. It lasts as long
as its notes and a tail, in which the last ones ring out. Both are functions of the song alone. A ``Renderer``
keeps nothing of one song for the next; it is for one thread at a time (make one for each).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reelmill import durable
from reelmill.audio import abc2midi, encode
from reelmill.audio.instruments import program
from reelmill.audio.midi import read_midi
from reelmill.audio.pcm import peak, to_integers
from reelmill.audio.performance import performed
from reelmill.audio.settings import AudioSettings
from reelmill.audio.soundfont import soundfont
from reelmill.heap import keep_freed_memory

EDITION = 2  # of what is done to MIDI and samples here; sound of another is other sound
_EDITION_MARK = ", sound edition "
TAIL_SECONDS = 1.0  # after the end of the last notes, which are held on and released
RELEASE = 60.0  # decibels that they lose in it, evenly
FADE_SECONDS = 0.01  # at the very end, so that what still rings does not click
PEAK = 10 ** (-1 / 20)  # of full scale: -1 dBFS, the room that lossy encoders ask for
SILENCE = 1e-4  # of full scale: -80 dBFS, as the synthesizer plays it
LONGEST_SECONDS = 3600.0

Samples = NDArray[np.int16]


class SilentAudio(Exception):
    """A synthesizer gave no sound, or no numbers: counted as a failure of the song."""


class Synthesizer(Protocol):
    """A back end: whole songs at a sample rate and number of channels given when it is made."""

    def __init__(self, soundfont: Path, sample_rate: int, channels: int) -> None: ...

    def synthesize(self, midi: bytes, seconds: float) -> NDArray[np.float32]:
        """Samples [time, channels], 1.0 being full scale, of a MIDI file whose notes last ``seconds``."""
        ...

    @staticmethod
    def version() -> str:
        """What makes the sound, with its version, for example ``symusic 0.5.8``."""
        ...


class Renderer:
    """Renders whole songs with one back end."""

    def __init__(self, synthesizer: Synthesizer, sample_rate: int, program: int = 0) -> None:
        """``program`` is MIDI's number of the instrument, from 0."""
        keep_freed_memory()
        self._synthesizer = synthesizer
        self._sample_rate = sample_rate
        self._program = program

    def render(self, midi: bytes) -> Samples:
        """Samples [time, channels] of a MIDI file, int16.

        They last ``read_midi(midi).seconds`` + ``TAIL_SECONDS``, to the sample. Raises SilentAudio;
        ValueError for a malformed file or one of more than an hour; ToolError if a program fails.
        """
        seconds = read_midi(midi).seconds
        if seconds > LONGEST_SECONDS:
            raise ValueError(f"MIDI file of {seconds:.0f} seconds; {LONGEST_SECONDS:.0f} are the most")
        heard = performed(midi, self._program, TAIL_SECONDS)
        samples = self._synthesizer.synthesize(heard, seconds + TAIL_SECONDS)
        return finish(samples, round((seconds + TAIL_SECONDS) * self._sample_rate), self._sample_rate)


def renderer(settings: AudioSettings) -> Renderer:
    """The renderer the settings ask for. Raises RequestError if a program or the soundfont is missing."""
    synthesizer = _back_end(settings)(soundfont(settings), settings.sample_rate, settings.channels)
    return Renderer(synthesizer, settings.sample_rate, program(settings.instrument))


def versions(settings: AudioSettings) -> dict[str, str]:
    """What the bytes of a rendered song depend on, for the fingerprint of a plan."""
    return {
        "abc2midi": abc2midi.version(),
        **instruments(settings),
        "encoder": encode.version(),
    }


def instruments(settings: AudioSettings) -> dict[str, str]:
    """What the samples of a MIDI file depend on: the synthesizer and the SHA-256 of its soundfont."""
    return {
        "synthesizer": f"{_back_end(settings).version()}{_EDITION_MARK}{EDITION}",
        "soundfont": durable.sha256(soundfont(settings)),
    }


def sound_edition(synthesizer: str) -> str:
    """The ``EDITION`` in what ``instruments`` says of a synthesizer; empty if it is older than editions."""
    return synthesizer.partition(_EDITION_MARK)[2]


def finish(samples: NDArray[np.float32], length: int, sample_rate: int) -> Samples:
    """``samples`` [time, channels] cut or padded to ``length``, the tail released, scaled to ``PEAK``, int16.

    ``samples`` is overwritten. Raises SilentAudio if they are silent or not all numbers.
    """
    samples = np.ascontiguousarray(samples[:length])
    release = _release(sample_rate)
    tail = max(0, length - len(release))
    samples[tail:] *= release[: max(0, len(samples) - tail), np.newaxis]
    fade = min(round(FADE_SECONDS * sample_rate), len(samples))
    samples[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, np.newaxis]
    highest = peak(samples)
    if not SILENCE <= highest < np.inf:
        raise SilentAudio(f"peak {highest:.1e} of full scale")
    finished = np.empty((length, samples.shape[1]), np.int16)
    finished[len(samples) :] = 0
    to_integers(samples, PEAK * 32767 / highest, finished[: len(samples)])
    return finished


@functools.cache
def _release(sample_rate: int) -> NDArray[np.float32]:
    """The gain of the tail's samples."""
    decibels = np.linspace(0, -RELEASE, round(TAIL_SECONDS * sample_rate))
    return (10 ** (decibels / 20)).astype(np.float32)


def _back_end(settings: AudioSettings) -> type[Synthesizer]:
    # Only the one asked for is imported: the others' libraries and programs may be missing.
    if settings.backend == "timidity":
        from reelmill.audio.with_timidity import Timidity

        return Timidity
    if settings.backend == "fluidsynth":
        from reelmill.audio.with_fluidsynth import Fluidsynth

        return Fluidsynth
    from reelmill.audio.with_symusic import Symusic

    return Symusic

"""Whether an audio file is what its song promises: audible, unclipped, and as long as its MIDI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reelmill.audio.encode import decode
from reelmill.audio.features import loudness
from reelmill.audio.render import TAIL_SECONDS

QUIETEST_DBFS = -50.0  # a single short note in a long song is louder
_SLACK_SECONDS = 0.002  # the seconds of a song's record are rounded


def audio_problem(audio: bytes | Path, midi_seconds: float) -> str:
    """What is wrong with an audio file or its bytes, as one phrase; "" if it is sound.

    ``midi_seconds`` is ``Midi.seconds``. Any renderer's file lasts that plus ``TAIL_SECONDS``.
    """
    try:
        samples, rate = decode(audio)
    except ValueError as error:
        return str(error)
    expected = midi_seconds + TAIL_SECONDS
    if abs(len(samples) / rate - expected) > _SLACK_SECONDS:
        return f"lasts {len(samples) / rate:.3f} seconds, its MIDI and the tail {expected:.3f}"
    if loudness(samples) < QUIETEST_DBFS:
        return f"silent: {loudness(samples):.0f} dBFS"
    if int(np.count_nonzero(np.abs(samples.astype(np.int32)) >= 32767)):
        return "clipped"
    return ""

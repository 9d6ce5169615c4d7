"""The default synthesizer: prestosynth inside symusic, in this process and the fastest by far.

It plays samples, loops and envelopes of a SoundFont and mixes them: no release after a note, no reverb. What
it gets wrong in a SoundFont is put right before it reads it (``simplify``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import symusic
from numpy.typing import NDArray

from reelmill.anonymous import anonymous_file
from reelmill.audio.simplify import simplify
from reelmill.errors import RequestError

_QUALITY = 4  # the interpolation's number in libsamplerate, linear; 5 and 6 do not exist and give silence


class Symusic:
    """Resampled samples are kept between songs, which changes no later one."""

    def __init__(self, soundfont: Path, sample_rate: int, channels: int) -> None:
        try:
            simplified = simplify(soundfont.read_bytes())
        except ValueError as error:
            raise RequestError(f"{soundfont}: {error}; give audio.soundfont another .sf2") from None
        with anonymous_file(simplified) as file:
            path = f"/dev/fd/{file.fileno()}"
            self._synthesizer = symusic.Synthesizer(path, sample_rate, _QUALITY)
        self._stereo = channels == 2

    def synthesize(self, midi: bytes, seconds: float) -> NDArray[np.float32]:
        score = symusic.Score.from_midi(midi)
        if not score.note_num():
            return np.zeros((0, 2 if self._stereo else 1), np.float32)
        # Interleaved in memory already: the transposed view is contiguous, and ours to overwrite.
        return np.asarray(self._synthesizer.render(score, self._stereo)).T

    @staticmethod
    def version() -> str:
        return f"symusic {symusic.__version__}, soundfont simplified, edition 1"

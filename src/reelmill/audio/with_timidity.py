"""The synthesizer of the 6.S191 lab: the timidity program (TiMidity++), with its own default effects."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from reelmill.audio import programs

# Debian's configuration names instruments that are not installed with it, so it gets one of its own.
_CONFIGURATION = b"soundfont /dev/fd/3\n"


class Timidity(programs.Synthesizer):
    """One process a song. Its 24-bit WAV is read back: it plays at a tenth of full scale."""

    name = "timidity"
    version_argument = "-v"

    def synthesize(self, midi: bytes, seconds: float) -> NDArray[np.float32]:
        command = [
            self._program,
            "-c", "/dev/fd/5",
            "-Ow", "--output-24bit", "--output-stereo" if self._channels == 2 else "--output-mono",
            "-o", "/dev/fd/4",
            "-s", str(self._sample_rate),
            "--preserve-silence",
            "/dev/fd/6",
        ]  # fmt: skip
        wav = programs.play(command, self._soundfont, [_CONFIGURATION, midi], seconds, self._sample_rate)
        samples: NDArray[np.float32] = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)[0]
        return samples

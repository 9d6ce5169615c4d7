"""The fluidsynth program: the fullest rendering of a SoundFont (filters, modulators, reverb, chorus)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reelmill.audio import programs


class Fluidsynth(programs.Synthesizer):
    """One process a song. It always plays in stereo; one channel is the mean of the two."""

    name = "fluidsynth"
    version_argument = "--version"

    def synthesize(self, midi: bytes, seconds: float) -> NDArray[np.float32]:
        command = [
            self._program,
            "--quiet", "--no-midi-in", "--no-shell",
            "--load-config", "/dev/null",  # not the user's
            "--fast-render", "/dev/fd/4", "--audio-file-type", "raw", "--audio-file-format", "float",
            "--sample-rate", str(self._sample_rate),
            "/dev/fd/3",
            "/dev/fd/5",
        ]  # fmt: skip
        raw = programs.play(command, self._soundfont, [midi], seconds, self._sample_rate)
        samples = np.frombuffer(bytearray(raw[: len(raw) // 8 * 8]), np.float32).reshape(-1, 2)
        return samples if self._channels == 2 else samples.mean(axis=1, keepdims=True, dtype=np.float32)

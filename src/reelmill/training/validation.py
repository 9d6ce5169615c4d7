"""Evaluation during training: the same figure in any number of processes, and quick to give way to a stop."""

from __future__ import annotations

import numpy as np

from reelmill.evaluation import batches_by_length, tunes_bits
from reelmill.model import CharLSTM
from reelmill.training.encoded import EncodedTunes
from reelmill.training.stopping import StopRequest
from reelmill.training.world import World


class Validation:
    """Held-out tunes; false if there are none."""

    def __init__(self, encoded: EncodedTunes | None) -> None:
        self.tunes: list[np.ndarray] = []
        if encoded is not None:
            bounds = encoded.bounds
            self.tunes = [
                np.asarray(encoded.characters[bounds[text] : bounds[text + 1]], dtype=np.int64)
                for text in encoded.tunes[:-1]
            ]

    def __bool__(self) -> bool:
        return bool(self.tunes)

    def bits_per_char(self, network: CharLSTM, world: World, stop: StopRequest) -> float | None:
        """Bits per character, equal in all processes; None if a stop was asked for."""
        batches = batches_by_length(self.tunes)
        bits = np.zeros(len(batches))
        for begin in range(0, len(batches), world.size):
            if world.any(bool(stop.reason)):
                return None
            index = begin + world.rank
            if index < len(batches):
                bits[index] = tunes_bits(network, batches[index])
        characters = sum(len(tune) - 1 for tune in self.tunes)
        return float(world.sum(bits).sum() / characters)

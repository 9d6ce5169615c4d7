"""Evaluation during training: the same figure at any number of processes, and quick to give way to a stop."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator

from reelmill.corpus.encoded import EncodedTunes
from reelmill.evaluation import batches_by_length, tunes_bits
from reelmill.model import CharLSTM
from reelmill.training.processes import any_process
from reelmill.training.stopping import StopRequest


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

    def bits_per_char(self, network: CharLSTM, accelerator: Accelerator, stop: StopRequest) -> float | None:
        """Bits per character, equal in all processes; None if a stop was asked for."""
        batches = batches_by_length(self.tunes)
        bits = torch.zeros(len(batches), dtype=torch.float64)  # each made by one process: no sum is rounded
        for begin in range(0, len(batches), accelerator.num_processes):
            if any_process(accelerator, bool(stop.reason))[0]:
                return None
            index = begin + accelerator.process_index
            if index < len(batches):
                bits[index] = tunes_bits(network, batches[index])
        if accelerator.num_processes > 1:
            dist.all_reduce(bits)
        return float(bits.sum() / sum(len(tune) - 1 for tune in self.tunes))

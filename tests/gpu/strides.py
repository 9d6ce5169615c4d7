"""A stride of sampling on one device: by a CUDA graph beside kernel by kernel, and its rate beside the limit.

``strides.py SETTINGS``, a JSON object: device, slots, hidden, seconds. Prints a JSON object: ``graph`` and
``eager``, SHA-256 of the songs each way, ``rate``, characters/s, and ``limit``, characters/s.

The limit is the recurrent product alone: the longer of two times, its operations (two a weight and row) at
the rate of a large product of int8, and the reading of its weights at the rate at which memory is copied.
Both rates are measured on this device, so the limit is what can be had here, not what a data sheet says.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch

from reelmill.corpus.vocabulary import END, Vocabulary
from reelmill.model import TrainedModel, new_network
from reelmill.sampling import engine as engine_module
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings

_LONGEST = 600  # characters of a song


def model(hidden: int) -> TrainedModel:
    """Random weights and songs of some 250 characters."""
    vocabulary = Vocabulary([chr(40 + index) for index in range(83)])
    settings = ModelSettings(hidden_size=hidden)
    network = new_network(settings, vocabulary, seed=1)
    with torch.no_grad():
        network.output.bias[END] = -1.2
    return TrainedModel(network.eval(), vocabulary, settings)


def new_engine(wanted: SimpleNamespace) -> Engine:
    """An engine with its slots."""
    settings = SamplingSettings(slots=wanted.slots, device=wanted.device, max_length=_LONGEST)
    return Engine(model(wanted.hidden), settings, seed=3)


def songs(wanted: SimpleNamespace) -> str:
    """SHA-256 of twice as many songs as there are slots."""
    engine, found = new_engine(wanted), {}
    for song in range(2 * engine.slots):
        engine.submit(Attempt(song))
    while engine.active:
        found.update({one.song: one.text for one in engine.step().sampled(engine.vocabulary)})
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def rate(wanted: SimpleNamespace) -> float:
    """Characters/s of finished songs, by the clock, once songs of every age stand beside each other."""
    engine, numbers = new_engine(wanted), itertools.count()

    def go_on(seconds: float) -> float:
        before, began = engine.characters, time.monotonic()
        while time.monotonic() - began < seconds:
            while engine.free:
                engine.submit(Attempt(next(numbers)))
            engine.step()
        return (engine.characters - before) / (time.monotonic() - began)

    go_on(wanted.seconds)
    return go_on(wanted.seconds)


def limit(wanted: SimpleNamespace) -> float:
    """Characters/s of the recurrent product alone."""
    device, size = torch.device(wanted.device), 8192 if wanted.device == "cuda" else 1024
    left, right = torch.ones(2, size, size, dtype=torch.int8, device=device)
    memory = torch.zeros(2, size * size * 4, dtype=torch.int8, device=device)
    operations = 2 * size**3 / _seconds(lambda: torch._int_mm(left, right.t()), device)
    transferred = 2 * memory[0].numel() / _seconds(lambda: memory[0].copy_(memory[1]), device)
    weights = 4 * wanted.hidden**2  # of a byte each
    step = max(2 * weights * wanted.slots / operations, weights / transferred)
    return wanted.slots / step


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that ``work`` takes, of twenty in a row."""
    for turn in range(2):  # the first to warm up
        began = time.monotonic()
        for _ in range(20):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn:
            return (time.monotonic() - began) / 20
    raise AssertionError


def main() -> None:
    """Measure, and print it."""
    wanted = SimpleNamespace(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    said = {"graph": songs(wanted), "rate": rate(wanted), "limit": limit(wanted)}
    engine_module.replayable = lambda work, _: work
    print(json.dumps({**said, "eager": songs(wanted)}))


if __name__ == "__main__":
    main()

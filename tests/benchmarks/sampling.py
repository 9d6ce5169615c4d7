"""Sampling at the lab's size (256 → 1024) beside the plain loop and beside the processor's own products.

One thread, CPU time, the ways in turn. Each engine is in the middle of a long run, and only characters of
songs count, once they are finished: padding, and the steps between a song's end and the next look, are time
lost. The limit is the recurrent product alone, 256 rows: two operations a weight and character, in bfloat16,
or in float32 where that is faster (processors without bfloat16 emulate it). Weights are random; the cost of a
character does not depend on them.

Tried and kept: int8 products with one fixed scale for the state (twice the rate of bfloat16, and of float32
where there is no VNNI); where there is none, sums of eight products in 16 bits before they are widened (the
product takes two thirds of oneDNN's time on Zen 3); the gates in one pass; the gate table instead of the
embedding's product (a fifth less work). Tried and left: int8 with signed activations (oneDNN falls back to a
slow kernel); more threads for one engine (their barriers cost more than they bring when anything else runs;
two processes scale better); FBGEMM's int8 product (as fast as oneDNN's); of our own product sums of sixteen,
other tiles, padded lines, huge pages, and the table's lines added in it (all within noise), and saturating
sums, which compilers do not regroup (a quarter slower).

Exact sums cost 5 % of an int8 character on Zen 4, and about 13 % with what it has of AVX2 alone: the output
layer's product in float64 takes twice float32's time. The choice by integers in a loop is faster than
PyTorch's softmax, twice where nothing is cut off and five times with top-k or top-p.
"""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Literal

import torch
from table import Row, at_least, row, table
from torch import nn
from trained import trained

from reelmill.corpus.vocabulary import END, Vocabulary
from reelmill.evaluation import encode_marked
from reelmill.model import TrainedModel, new_network
from reelmill.runs import find_checkpoint, load_model, read_test_tunes
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings

Precision = Literal["float32", "bfloat16", "int8"]
Device = Literal["cpu", "cuda"]
INT8: Precision = "int8"
FLOATS: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SLOTS, ROUNDS = 256, 3
WARM, SONGS = 4, 4  # a slot
PLAIN_CHARACTERS = 1000
WEIGHTS = 4 * 1024 * 1024  # of the recurrent product


def model(**beside: int) -> TrainedModel:
    """The lab's size, with random weights and songs of some 250 characters; ``beside`` are more settings."""
    vocabulary = Vocabulary([chr(40 + index) for index in range(83)])
    settings = ModelSettings(**beside)
    network = new_network(settings, vocabulary, seed=1)
    with torch.no_grad():
        network.output.bias[END] = -1.2
    return TrainedModel(network.eval(), vocabulary, settings)


class Busy:
    """An engine in the middle of a long run: there is a new song for each that is finished."""

    def __init__(self, one: TrainedModel, precision: Precision, device: Device = "cpu") -> None:
        settings = SamplingSettings(precision=precision, slots=SLOTS if device == "cpu" else 0, device=device)
        self._engine = Engine(one, settings, seed=3)
        self.slots = self._engine.slots
        self._songs = itertools.count()
        self.characters(WARM)  # all began at once; from here on songs of every age stand beside each other

    def characters(self, rounds: int) -> int:
        """Go on until ``rounds`` songs a slot are finished; the characters of these songs."""
        before, left = self._engine.characters, rounds * self.slots
        while left > 0:
            while self._engine.free:
                self._engine.submit(Attempt(next(self._songs)))
            left -= len(self._engine.step())
        return self._engine.characters - before

    def rate(self) -> float:
        """Characters of finished songs a CPU second."""
        began = time.process_time()
        return self.characters(SONGS) / (time.process_time() - began)


def cuda_rows(one: TrainedModel) -> list[Row]:
    """A CUDA device in bfloat16 with its default slots, beside the product alone; by the clock."""
    busy = Busy(one, "bfloat16", "cuda")
    began = time.monotonic()
    rate = busy.characters(16) / (time.monotonic() - began)
    state = torch.randn(busy.slots, 1024, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(4096, 1024, device="cuda", dtype=torch.bfloat16)
    for count in (100, 2000):  # the first to warm up
        torch.cuda.synchronize()
        began = time.monotonic()
        for _ in range(count):
            _ = state @ weight.t()
        torch.cuda.synchronize()
    limit = count * busy.slots / (time.monotonic() - began)
    name = f"sampling, bfloat16, {torch.cuda.get_device_name()}"
    return [row(name, rate, "characters/s", "bfloat16 product alone", rate / limit)]


def plain_rate(one: TrainedModel) -> float:
    """Characters a CPU second of the lab's loop: one song at a time, each character drawn by multinomial."""
    embedding = nn.Embedding(one.vocabulary.size, 256)
    lstm = nn.LSTM(256, 1024, batch_first=True)
    output = nn.Linear(1024, one.vocabulary.size)
    current, state, text = torch.tensor([[0]]), None, []
    began = time.process_time()
    with torch.inference_mode():
        for _ in range(PLAIN_CHARACTERS):
            hidden, state = lstm(embedding(current), state)
            current = torch.multinomial(torch.softmax(output(hidden).squeeze(0), dim=-1), num_samples=1)
            text.append(int(current))
    return len(text) / (time.process_time() - began)


def held_out_bits(run: Path, precision: Precision) -> float:
    """Bits a character on the run's test tunes, all read at once by the cell that the engine samples with."""
    one = load_model(run)
    tunes, _ = encode_marked(read_test_tunes(run, find_checkpoint(run)), one.vocabulary)
    cell = SamplingCell(one, precision, torch.device("cpu"))
    text = torch.full((len(tunes), max(map(len, tunes))), END)
    for line, tune in zip(text, tunes, strict=True):
        line[: len(tune)] = torch.from_numpy(tune)
    lengths = torch.tensor([len(tune) for tune in tunes])
    hidden = torch.zeros(cell.layers, len(tunes), cell.hidden_size)
    cells, bits, past = torch.zeros_like(hidden), 0.0, cell.past(len(tunes), text.shape[1])
    with torch.inference_mode():
        for time_step in range(text.shape[1] - 1):
            logits = cell.step(text[:, time_step], hidden, cells, past)
            past.text[:, time_step] = text[:, time_step + 1]
            past.position.add_(1)
            surprise = -torch.log_softmax(logits, dim=1).gather(1, text[:, time_step + 1, None]).squeeze(1)
            bits += float(surprise[lengths > time_step + 1].double().sum()) / math.log(2)
    return bits / float((lengths - 1).sum())


def product_rate(dtype: torch.dtype) -> float:
    """Characters a CPU second if the recurrent product were all there is to do."""
    state, weight = torch.randn(SLOTS, 1024).to(dtype), torch.randn(4096, 1024).to(dtype)
    _ = state @ weight.t()  # the first packs
    began = time.process_time()
    for _ in range(100):
        _ = state @ weight.t()
    return 100 * SLOTS / (time.process_time() - began)


def rows() -> list[Row]:
    """int8 and the faster float beside the plain loop and the limit."""
    torch.set_num_threads(1)
    one = model()
    faster = max(FLOATS, key=lambda precision: product_rate(FLOATS[precision]))
    engines = {precision: Busy(one, precision) for precision in (INT8, faster)}
    form = Busy(model(pointer=128, position=32), INT8)
    measured = [
        {
            **{precision: engine.rate() for precision, engine in engines.items()},
            "form": form.rate(),
            "plain": plain_rate(one),
            "limit": product_rate(FLOATS[faster]),
        }
        for _ in range(ROUNDS)
    ]
    middle = {name: sorted(each[name] for each in measured)[ROUNDS // 2] for name in measured[0]}
    gigaflops = middle["limit"] * 2 * WEIGHTS / 1e9
    found = []
    for precision in (INT8, faster):
        name, unit = f"sampling, {precision}", "characters/CPU s"
        beside_plain = [each[precision] / each["plain"] for each in measured]
        beside_limit = [each[precision] / each["limit"] for each in measured]
        goal = (
            at_least(150, beside_plain) if precision == INT8 else {"ratio": sorted(beside_plain)[ROUNDS // 2]}
        )
        found.append(row(name, middle[precision], unit, "the lab's loop", **goal))
        limit = f"{faster} product alone ({gigaflops:.0f} GFLOP/s)"
        found.append(row(name, middle[precision], unit, limit, **at_least(0.8, beside_limit)))
    beside_int8 = at_least(0.8, [each["form"] / each[INT8] for each in measured])
    name = "sampling, int8, pointer of 128 and positions"
    found.append(row(name, middle["form"], "characters/CPU s", "the same without", **beside_int8))
    found.append(row("the lab's loop", middle["plain"], "characters/CPU s"))
    exact, low = held_out_bits(trained(), "float32"), held_out_bits(trained(), INT8)
    found.append(
        {
            **row("held-out bits a character, int8", low, "", f"float32 ({exact:.4f})", low / exact),
            "goal": "0.005 more at most",
            "met": low - exact < 0.005,
        }
    )
    return found + (cuda_rows(one) if torch.cuda.is_available() else [])


if __name__ == "__main__":
    print(table(rows()))

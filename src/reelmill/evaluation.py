"""Bits per character: how well a model foretells tunes it has not seen.

A tune is scored from its start mark, with a zero state, to its end mark, which counts as one character.
Characters outside the vocabulary are left out and counted. Tunes of like length are scored together, in
pieces of time that only the tunes reach which are that long, so padding costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import RequestError
from reelmill.model import CharLSTM, State, TrainedModel, float32_as_written

Encoded = npt.NDArray[np.int64]

_ROWS = 64  # tunes scored together; fixed, so that the sums are the same in any number of processes
_TIME = 256  # characters a piece


@dataclass(frozen=True)
class Score:
    """Sums over tunes. ``characters`` counts the end marks, not the unknown characters."""

    bits: float
    characters: int
    tunes: int
    unknown_characters: int

    def to_json(self) -> dict[str, float | int]:
        """The values under the names that ``reelmill evaluate --json`` prints."""
        return {
            "bits_per_char": self.bits / self.characters,
            "bits_per_tune": self.bits / self.tunes,
            "chars": self.characters,
            "tunes": self.tunes,
            "unknown_chars": self.unknown_characters,
        }


def evaluate(
    model: TrainedModel, tunes: Iterable[str], device: str | torch.device | None = None
) -> dict[str, float | int]:
    """bits_per_char, bits_per_tune, chars, tunes and unknown_chars of ``tunes``.

    ``device``: a GPU if there is one, unless named. RequestError if there is no tune.
    """
    encoded, unknown = encode_marked(tunes, model.vocabulary)
    if not encoded:
        raise RequestError(
            "there is no tune to score (corpus.test_fraction says how many tunes are held out)"
        )
    network = model.network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with float32_as_written():
        bits = sum(tunes_bits(network, batch) for batch in batches_by_length(encoded))
    return Score(bits, sum(len(tune) - 1 for tune in encoded), len(encoded), unknown).to_json()


def evaluate_run(run: Path, checkpoint: str | None = None, abc: Path | None = None) -> dict[str, Any]:
    """Score the test tunes that the run keeps, or those of an ABC file brought to canonical form first.

    Besides what ``evaluate`` gives: ``run``, ``checkpoint`` (its name), ``step``, ``tunes_from`` ("test" or
    the file) and ``dropped``, how many tunes of the file were dropped for which reason. Raises RequestError
    if there is nothing to score.
    """
    from reelmill.runs import find_checkpoint, load_model, read_test_tunes, run_config

    found = find_checkpoint(run, checkpoint)
    model = load_model(run, found.name)
    dropped: dict[str, int] = {}
    if abc is None:
        texts = read_test_tunes(run, found)
    else:
        texts, dropped = canonical_tunes(abc, run_config(run).corpus.fields)
    return {
        **evaluate(model, texts),
        "run": str(run),
        "checkpoint": found.name,
        "step": found.step,
        "tunes_from": "test" if abc is None else str(abc),
        "dropped": dropped,
    }


def canonical_tunes(path: Path, fields: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """The tunes of an ABC file in canonical form, and how many were dropped for which reason."""
    from reelmill.corpus.books import check_book, read_book
    from reelmill.notation.canonical import NotATune, canonical

    check_book(path)
    tunes: list[str] = []
    dropped: dict[str, int] = {}
    for raw in read_book(path):
        try:
            tunes.append(canonical(raw, fields))
        except NotATune as error:
            dropped[error.reason] = dropped.get(error.reason, 0) + 1
    if not tunes:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in dropped.items())
        raise RequestError(f"{path}: no tune in it can be scored ({reasons or 'no X: field'})")
    return tunes, dropped


def encode_marked(tunes: Iterable[str], vocabulary: Vocabulary) -> tuple[list[Encoded], int]:
    """Each tune as indices between its marks, and how many characters were unknown and left out."""
    encoded, unknown = [], 0
    for tune in tunes:
        known = vocabulary.encode(tune)
        unknown += len(tune) - len(known)
        encoded.append(np.concatenate([[START], known, [END]]).astype(np.int64))
    return encoded, unknown


def batches_by_length(tunes: Sequence[Encoded]) -> list[list[Encoded]]:
    """``tunes`` in batches of like length, the longest first, also within a batch."""
    order = sorted(range(len(tunes)), key=lambda index: -len(tunes[index]))
    return [[tunes[index] for index in order[at : at + _ROWS]] for at in range(0, len(order), _ROWS)]


@torch.inference_mode()
def tunes_bits(network: CharLSTM, tunes: Sequence[Encoded]) -> float:
    """Bits of ``tunes`` together, float32 logits summed in float64. The longest tune must come first."""
    device = network.embedding.weight.device
    nats = torch.zeros((), dtype=torch.float64, device=device)
    state: State | None = None
    for inputs, targets in _pieces(tunes):
        rows = len(inputs)
        if state is not None:
            state = tuple(part[:, :rows].contiguous() for part in state)
        logits, state = network(inputs.to(device), state)
        losses = cross_entropy(logits.flatten(0, 1), targets.to(device).flatten(), reduction="none")
        nats += losses.double().sum()
    return float(nats.item()) / math.log(2)


def _pieces(tunes: Sequence[Encoded]) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets), each [rows that reach here, time]; a padded target is -100 and costs nothing."""
    for begin in range(0, len(tunes[0]) - 1, _TIME):
        reaching = [tune for tune in tunes if len(tune) - 1 > begin]
        time = min(_TIME, len(reaching[0]) - 1 - begin)
        inputs = np.full((len(reaching), time), END, dtype=np.int64)
        targets = np.full((len(reaching), time), -100, dtype=np.int64)
        for row, tune in enumerate(reaching):
            piece = tune[begin : begin + time + 1]
            inputs[row, : len(piece) - 1] = piece[:-1]
            targets[row, : len(piece) - 1] = piece[1:]
        yield torch.from_numpy(inputs), torch.from_numpy(targets)

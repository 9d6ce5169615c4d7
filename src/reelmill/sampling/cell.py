"""The LSTM one character at a time, for many songs at once, arranged for sampling.

The first layer's input product depends only on the character, so it is computed once for each character of
the vocabulary and looked up (the gate table). What is left a character and layer is one product with the
recurrent weights (and the input weights above the first layer), and the gates.

PyTorch's sigmoid takes a fifth of the time of its tanh, and tanh(x) = 2 sigmoid(2x) - 1. So the candidate's
weights are doubled, the state kept here is twice the LSTM's, and one sigmoid serves all four gates.

PyTorch's functions round an element otherwise when it falls into the remainder of a vector loop. Two things
keep every element out of it, so that a row's bits do not depend on the number of rows or threads: the hidden
size is padded to whole vectors, and a step runs on one thread (several threads cut a tensor anywhere). More
processors are used by more processes.

A model's metrical positions are read by their automaton, and what they add to the gates is looked up as well.
Its pointer keeps a key of each character in a ring a row (``kernels.pointing``).

In int8 every sum is of integers (``products``, ``exact``) and the gates are multiplications, additions and
divisions, so logits are the same bits on every processor. In float32 and bfloat16 they follow the processor.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import nn
from torch.nn.functional import pad

from reelmill.corpus.vocabulary import START
from reelmill.metrical.kernels.counting import COUNTERS
from reelmill.metrical.reading import SIZES, Reader
from reelmill.model import CharLSTM, TrainedModel
from reelmill.pointer import BARS_AGO, Pointer, Position
from reelmill.sampling import kernels
from reelmill.sampling.exact import exact_linear, exponent
from reelmill.sampling.kernels.gates import turn, turn_by_pytorch
from reelmill.sampling.kernels.places import add_places
from reelmill.sampling.kernels.pointing import Biases, point
from reelmill.sampling.products import Product, in_blocks, product

_VECTOR = 64  # elements; more than any processor's vector loop takes at a time
_COLUMNS = 8  # of the output layer
_OUTPUTS = 16  # of a product in int8
_LEVELS = 127  # of a key on each side of 0 in int8


class Past(Protocol):
    """What a pointer and metrical positions know of each row; ``Rows`` has it."""

    @property
    def counters(self) -> torch.Tensor:
        """Of the automaton: int64 [counters, rows]."""

    @property
    def keys(self) -> torch.Tensor:
        """Of the pointer: int8 or int16 [rows, window, width]."""

    @property
    def anchors(self) -> torch.Tensor:
        """Of the keys' places: int64 [rows, window]."""

    @property
    def text(self) -> torch.Tensor:
        """The characters read: uint8 or int32 [rows, any]."""

    @property
    def position(self) -> torch.Tensor:
        """How many those are: int64 [rows]."""


class _Past(NamedTuple):
    counters: torch.Tensor
    keys: torch.Tensor
    anchors: torch.Tensor
    text: torch.Tensor
    position: torch.Tensor


class SamplingCell:
    """One step of a ``TrainedModel``: characters and state in, logits and state out."""

    def __init__(self, model: TrainedModel, precision: str, device: torch.device) -> None:
        network = model.network
        self.layers = model.settings.layers
        self._size = model.settings.hidden_size
        self.hidden_size = -(-self._size // _VECTOR) * _VECTOR  # padded: what is added stays 0
        exactly = precision == "int8" or kernels.by_loops(device)
        self._turn = turn if exactly else turn_by_pytorch
        with torch.inference_mode(), one_thread():
            first = self._layer(network.layers[0])
            embedding = network.embedding.weight.float().cpu()
            gates = exact_linear(first["weight_ih_l0"], _bias(first), exponent(embedding))
            self._products: list[Product] = []
            # What is added to each layer's product: a line for each character, or one for all.
            self._tables = [gates(embedding).to(device)]  # each float32 [lines, 4 × hidden]
            for index, module in enumerate(network.layers):
                layer = self._layer(module)
                recurrent = self._padded(layer["weight_hh_l0"], 1)
                if index == 0:
                    weight = recurrent
                else:
                    weight = torch.cat([self._padded(layer["weight_ih_l0"], 1), recurrent], dim=1)
                    self._tables.append(_bias(layer)[None].to(device))
                self._products.append(product(weight, precision, device))
            self._characters = len(network.output.bias)
            self._prepare_position(network.position, first, model, device)
            self._prepare_pointer(network.pointer, precision, device)
            self._logits = self._output_layer(network, precision, device)

    def past(self, rows: int, length: int) -> Past:
        """What is known of ``rows`` rows before their first character, of ``length`` at most."""

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._device)

        window = min(self.window, length)
        keys = zeros(rows, window, self.width, dtype=self.keys)
        text = zeros(rows, length, dtype=torch.int32)
        return _Past(zeros(self.counters, rows), keys, zeros(rows, window), text, zeros(rows))

    def step(
        self, characters: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, past: Past
    ) -> torch.Tensor:
        """Logits float32 [rows, vocabulary] after ``characters`` int64 [rows], the last of the ``past``.

        ``hidden`` and ``cell``, float32 [layers, rows, hidden], are updated in place, and so is the past but
        for its text; ``cell`` is twice the LSTM's.
        """
        with one_thread():
            state, lines, anchor = hidden[0], characters, past.position
            if self._reader is not None:
                by_loops = kernels.by_loops(self._device)
                read = self._reader.read if by_loops else self._reader.read_by_pytorch
                place = read(characters[:, None], past.counters)[:, 0]
                anchor, place_lines = place[:, -1], place[:, :-1] + self._first_lines
            for index in range(self.layers):
                if index > 0:
                    state = torch.cat([hidden[index - 1], hidden[index]], dim=1)
                    lines = torch.zeros_like(characters)
                gates = self._products[index](state)
                if index == 0 and self._reader is not None:
                    beside = add_places(gates, self._into, self._beside, place_lines)
                self._turn(gates, self._tables[index], lines, hidden[index], cell[index])
            shown = hidden[-1] if self._reader is None else torch.cat([hidden[-1], beside], dim=1)
            logits = self._logits(shown)
            if not self.width:
                return logits[:, : self._characters]
            asked = self._ask(shown)[:, : 2 * self.width] + self._asked_bias
            spoken = logits[:, : self._characters + 1]
            seen = past.keys, past.anchors, past.text, past.position
            return point(asked, spoken, anchor, *seen, self._biases, self._levels)

    def _prepare_position(
        self,
        position: Position | None,
        first: dict[str, torch.Tensor],
        model: TrainedModel,
        device: torch.device,
    ) -> None:
        """Tables of what each part of a place adds to the gates and beside the output, all in one."""
        self._device = device
        self._reader = None if position is None else Reader(model.vocabulary, device)
        self.counters = 0 if position is None else COUNTERS
        if position is None:
            return
        width, into, beside = model.settings.position, [], []
        for index, part in enumerate(position.parts):
            columns = slice(index * width, (index + 1) * width)
            embedding = part.get_parameter("weight").float().cpu()
            added = _exactly(position.into.weight.float().cpu()[:, columns], embedding)
            into.append(_exactly(first["weight_ih_l0"], added))
            beside.append(_exactly(position.beside.weight.float().cpu()[:, columns], embedding))
        beside[0] = beside[0] + position.beside.bias.float().cpu()
        self._into = torch.cat(into).contiguous().to(device)
        self._beside = pad(torch.cat(beside), (0, -2 * width % _VECTOR)).to(device)
        self._first_lines = torch.tensor([0, *itertools.accumulate(SIZES[:-1])], device=device)

    def _prepare_pointer(self, pointer: Pointer | None, precision: str, device: torch.device) -> None:
        self.window, self.width, self.keys = (0, 0, torch.int8)
        if pointer is None:
            return
        self.window, self.width = pointer.window, pointer.query.out_features
        # Elsewhere than in int8 as many levels as leave a sum of products in an int32.
        self._levels = _LEVELS if precision == "int8" else math.isqrt(2**30 // self.width)
        self.keys = torch.int8 if precision == "int8" else torch.int16
        weight = torch.cat([self._shown(layer.weight) for layer in (pointer.query, pointer.key)])
        self._ask = product(pad(weight, (0, 0, 0, -len(weight) % _OUTPUTS)), precision, device)
        self._asked_bias = torch.cat([pointer.query.bias, pointer.key.bias]).float().to(device)
        bars = torch.zeros(BARS_AGO[-1] + 1)
        if pointer.bars is not None:
            bars[list(BARS_AGO)] = pointer.bars.float().cpu()
        self._biases = Biases(pointer.distance.float().to(device), bars.to(device))

    def _output_layer(self, network: CharLSTM, precision: str, device: torch.device) -> Product:
        """Logits of hidden states, and the gate's: in no fewer bits than float32's, for it is 2 % of the work
        and all of the distribution.
        """
        layers = [network.output] + ([network.pointer.gate] if network.pointer is not None else [])
        weight = torch.cat([self._shown(layer.weight) for layer in layers])
        bias = torch.cat([layer.bias.float().cpu() for layer in layers])
        for part in filter(None, (network.position, network.pointer)):
            for weights in part.parameters():
                bias = bias + (weights.float().cpu() * 0).sum()  # levels do not show that one is no number
        # Columns are padded as well: a sixth less time, whatever the vocabulary.
        more = -len(bias) % _COLUMNS
        weight, bias = pad(weight, (0, 0, 0, more)), pad(bias, (0, more))
        bias[START] = -torch.inf  # the start mark begins a song and never stands in one
        if precision == "int8":
            return exact_linear(weight, bias, 0, device)
        columns, added = weight.t().contiguous().to(device), bias.to(device)
        return in_blocks(lambda hidden: torch.addmm(added, hidden, columns), device)

    def _shown(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight of the LSTM's output and what stands beside it, both padded."""
        hidden, beside = weight.float().cpu().split([self._size, weight.shape[1] - self._size], dim=1)
        return torch.cat([self._padded(hidden, 1), pad(beside, (0, -beside.shape[1] % _VECTOR))], dim=1)

    def _layer(self, lstm: nn.Module) -> dict[str, torch.Tensor]:
        """A layer's parameters in float32 on the CPU, each of the four gates padded to the padded size."""
        doubled = torch.tensor([1.0, 1.0, 2.0, 1.0])
        parameters = {}
        for name, value in lstm.named_parameters():
            gates = value.detach().float().cpu().unflatten(0, (4, self._size))
            gates = gates * doubled.reshape(4, *[1] * (gates.ndim - 1))
            parameters[name] = self._padded(gates, 1).flatten(0, 1)
        return parameters

    def _padded(self, weight: torch.Tensor, axis: int) -> torch.Tensor:
        """``weight`` with zeros behind the hidden size along ``axis``."""
        shape = list(weight.shape)
        shape[axis] = self.hidden_size - self._size
        return torch.cat([weight, weight.new_zeros(shape)], dim=axis)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on the calling thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _exactly(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``x @ weight.T``, the same on every processor."""
    return exact_linear(weight.contiguous(), torch.zeros(len(weight)), exponent(x))(x)


def _bias(layer: dict[str, torch.Tensor]) -> torch.Tensor:
    return layer["bias_ih_l0"] + layer["bias_hh_l0"]

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

In int8 every sum is of integers (``products``, ``exact``) and the gates are multiplications, additions and
divisions, so logits are the same bits on every processor. In float32 and bfloat16 they follow the processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import pad

from reelmill.corpus.vocabulary import START
from reelmill.model import TrainedModel
from reelmill.sampling import kernels
from reelmill.sampling.exact import exact_linear, exponent
from reelmill.sampling.kernels.gates import turn, turn_by_pytorch
from reelmill.sampling.products import Product, in_blocks, product

_VECTOR = 64  # elements; more than any processor's vector loop takes at a time
_COLUMNS = 8  # of the output layer


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
            self._logits = self._output_layer(network.output, precision, device)

    def step(self, characters: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Logits float32 [rows, vocabulary] after ``characters`` int64 [rows].

        ``hidden`` and ``cell``, float32 [layers, rows, hidden], are updated in place; ``cell`` is twice the
        LSTM's.
        """
        with one_thread():
            state, lines = hidden[0], characters
            for index in range(self.layers):
                if index > 0:
                    state = torch.cat([hidden[index - 1], hidden[index]], dim=1)
                    lines = torch.zeros_like(characters)
                gates = self._products[index](state)
                self._turn(gates, self._tables[index], lines, hidden[index], cell[index])
            return self._logits(hidden[-1])[:, : self._characters]

    def _output_layer(self, layer: nn.Linear, precision: str, device: torch.device) -> Product:
        """Logits of hidden states: in no fewer bits than float32's, for it is 2 % of the work and all of the
        distribution.
        """
        # Columns are padded as well: a sixth less time, whatever the vocabulary.
        more = -self._characters % _COLUMNS
        weight = pad(self._padded(layer.weight.float().cpu(), 1), (0, 0, 0, more))
        bias = pad(layer.bias.float().cpu(), (0, more))
        bias[START] = -torch.inf  # the start mark begins a song and never stands in one
        if precision == "int8":
            return exact_linear(weight, bias, 0, device)
        columns, added = weight.t().contiguous().to(device), bias.to(device)
        return in_blocks(lambda hidden: torch.addmm(added, hidden, columns), device)

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


def _bias(layer: dict[str, torch.Tensor]) -> torch.Tensor:
    return layer["bias_ih_l0"] + layer["bias_hh_l0"]

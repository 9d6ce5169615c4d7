"""The LSTM one character at a time, for many songs at once, arranged for sampling.

The first layer's input product depends only on the character, so it is computed once for each character of
the vocabulary and looked up (the gate table). What is left a character and layer is one product with the
recurrent weights (and the input weights above the first layer), and the gates.
"""

from __future__ import annotations

import torch
from torch import nn

from reelmill.corpus.vocabulary import START
from reelmill.model import TrainedModel
from reelmill.sampling.products import Product, product


class SamplingCell:
    """One step of a ``TrainedModel``: characters and state in, logits and state out."""

    def __init__(self, model: TrainedModel, precision: str, device: torch.device) -> None:
        network = model.network
        self.hidden_size = model.settings.hidden_size
        self.layers = model.settings.layers
        with torch.inference_mode():
            first = _layer(network.layers[0])
            table = network.embedding.weight.float() @ first["weight_ih_l0"].t() + _bias(first)
            self._table = table.to(device).contiguous()  # [vocabulary, 4 × hidden]
            self._products: list[Product] = []
            self._biases: list[torch.Tensor] = []
            for index, module in enumerate(network.layers):
                layer = _layer(module)
                if index == 0:
                    weight, bias = layer["weight_hh_l0"], torch.zeros(())  # the table has this one's
                else:
                    weight = torch.cat([layer["weight_ih_l0"], layer["weight_hh_l0"]], dim=1)
                    bias = _bias(layer)
                self._products.append(product(weight.to(device), precision))
                self._biases.append(bias.to(device))
            # The output layer stays in float32: it is 2 % of the work and all of the distribution.
            self._output = network.output.weight.float().to(device).t().contiguous()
            self._output_bias = network.output.bias.float().to(device).clone()
            self._output_bias[START] = -torch.inf  # the start mark begins a song and never stands in one

    def step(self, characters: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Logits float32 [rows, vocabulary] after ``characters`` int64 [rows].

        ``hidden`` and ``cell``, float32 [layers, rows, hidden], are updated in place.
        """
        size = self.hidden_size
        for index in range(self.layers):
            if index == 0:
                gates = self._products[0](hidden[0]).add_(self._table[characters])
            else:
                gates = self._products[index](torch.cat([hidden[index - 1], hidden[index]], dim=1))
                gates.add_(self._biases[index])
            # Gates in PyTorch's order: input, forget, candidate, output.
            gates[:, : 2 * size].sigmoid_()
            gates[:, 2 * size : 3 * size].tanh_()
            gates[:, 3 * size :].sigmoid_()
            kept, opened, candidate, shown = (
                gates[:, size : 2 * size],
                gates[:, :size],
                gates[:, 2 * size : 3 * size],
                gates[:, 3 * size :],
            )
            cell[index].mul_(kept).addcmul_(opened, candidate)
            torch.tanh(cell[index], out=hidden[index])
            hidden[index].mul_(shown)
        return torch.addmm(self._output_bias, hidden[-1], self._output)


def _layer(lstm: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().float() for name, value in lstm.named_parameters()}


def _bias(layer: dict[str, torch.Tensor]) -> torch.Tensor:
    return layer["bias_ih_l0"] + layer["bias_hh_l0"]

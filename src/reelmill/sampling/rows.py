"""What the engine knows of each row, as tensors on the device: the state of the songs being sampled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

_STATES = ("hidden", "cells")  # rows are the second axis of these, and the first of the others


@dataclass
class Rows:
    """One entry a row in every tensor; integers are int64 unless said."""

    hidden: torch.Tensor  # float32 [layers, rows, hidden]
    cells: torch.Tensor  # float32 [layers, rows, hidden]
    current: torch.Tensor  # the character last read
    text: torch.Tensor  # uint8 or int32 [rows, max_length]: the prompt at first, then what was chosen
    position: torch.Tensor  # how many characters the text has
    prompt_length: torch.Tensor
    song: torch.Tensor
    number: torch.Tensor  # of the attempt
    uniforms: torch.Tensor  # float32 [rows, block]
    finished: torch.Tensor  # bool
    ended: torch.Tensor  # bool: finished by an end mark

    @classmethod
    def idle(
        cls,
        count: int,
        *,
        layers: int,
        hidden_size: int,
        max_length: int,
        block: int,
        vocabulary_size: int,
        device: torch.device,
    ) -> Rows:
        """``count`` rows that sample nothing yet."""

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        characters = torch.uint8 if vocabulary_size <= 256 else torch.int32
        return cls(
            hidden=zeros(layers, count, hidden_size),
            cells=zeros(layers, count, hidden_size),
            current=zeros(count, dtype=torch.int64),
            text=zeros(count, max_length, dtype=characters),
            position=zeros(count, dtype=torch.int64),
            prompt_length=zeros(count, dtype=torch.int64),
            song=zeros(count, dtype=torch.int64),
            number=zeros(count, dtype=torch.int64),
            uniforms=zeros(count, block),
            finished=zeros(count, dtype=torch.bool),
            ended=zeros(count, dtype=torch.bool),
        )

    def take_over(self, other: Rows, kept: list[int]) -> None:
        """Let the first rows be ``other``'s ``kept`` ones."""
        index = torch.tensor(kept, dtype=torch.int64, device=self.position.device)
        for item in dataclasses.fields(self):
            axis = 1 if item.name in _STATES else 0
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            mine.narrow(axis, 0, len(kept)).copy_(theirs.index_select(axis, index))

"""What the engine knows of each row and of the attempts that wait for one, as tensors on the device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

_STATES = ("hidden", "cells", "counters")  # rows are the second axis of these, and the first of the others


@dataclass
class Rows:
    """One entry a row in each; integers are int64 unless said. An idle row neither runs nor is done."""

    hidden: torch.Tensor  # float32 [layers, rows, hidden]
    cells: torch.Tensor  # float32 [layers, rows, hidden]
    counters: torch.Tensor  # [counters, rows]: of the metrical positions, if the model has them
    keys: torch.Tensor  # int8 or int16 [rows, window, width]: of the pointer, if the model has one
    anchors: torch.Tensor  # [rows, window]: of the same places
    current: torch.Tensor  # the character last read
    text: torch.Tensor  # uint8 or int32 [rows, max_length]: the prompt at first, then what was chosen
    position: torch.Tensor  # how many characters the text has
    prompt_length: torch.Tensor
    song: torch.Tensor
    number: torch.Tensor  # of the attempt
    uniforms: torch.Tensor  # float32 [rows, block]
    running: torch.Tensor  # bool
    done: torch.Tensor  # bool: finished, and not collected yet
    ended: torch.Tensor  # bool: finished by an end mark

    def __len__(self) -> int:
        return len(self.current)

    @classmethod
    def idle(
        cls,
        count: int,
        *,
        layers: int,
        hidden_size: int,
        counters: int,
        window: int,
        width: int,
        keys: torch.dtype,
        max_length: int,
        block: int,
        characters: torch.dtype,
        device: torch.device,
    ) -> Rows:
        """``count`` rows that sample nothing yet."""

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            hidden=zeros(layers, count, hidden_size, dtype=torch.float32),
            cells=zeros(layers, count, hidden_size, dtype=torch.float32),
            counters=zeros(counters, count),
            keys=zeros(count, window, width, dtype=keys),
            anchors=zeros(count, window),
            current=zeros(count),
            text=zeros(count, max_length, dtype=characters),
            position=zeros(count),
            prompt_length=zeros(count),
            song=zeros(count),
            number=zeros(count),
            uniforms=zeros(count, block, dtype=torch.float32),
            running=zeros(count, dtype=torch.bool),
            done=zeros(count, dtype=torch.bool),
            ended=zeros(count, dtype=torch.bool),
        )

    def take_over(self, other: Rows) -> None:
        """Have ``other``'s rows, those that are not idle first, as many as there is place for."""
        self.running.zero_()
        self.done.zero_()
        order = first_of(other.running | other.done, len(self))
        for item in dataclasses.fields(self):
            axis = 1 if item.name in _STATES else 0
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            mine.narrow(axis, 0, len(order)).copy_(theirs.index_select(axis, order))


@dataclass
class Queue:
    """Attempts that wait for a row: a ring, of which the device takes from the front as rows get free."""

    song: torch.Tensor
    number: torch.Tensor  # of the attempt
    prompt_length: torch.Tensor
    text: torch.Tensor  # uint8 or int32 [places, max_length]: the prompt
    submitted: torch.Tensor  # [1]: attempts so far that were put into the ring
    begun: torch.Tensor  # [1]: of them, those that were given a row

    def __len__(self) -> int:
        return len(self.song)

    @classmethod
    def empty(cls, places: int, max_length: int, characters: torch.dtype, device: torch.device) -> Queue:
        """A ring of so many places."""
        song, number, prompt_length = torch.zeros(3, places, dtype=torch.int64, device=device)
        submitted, begun = torch.zeros(2, 1, dtype=torch.int64, device=device)
        text = torch.zeros(places, max_length, dtype=characters, device=device)
        return cls(song, number, prompt_length, text, submitted, begun)


def first_of(wanted: torch.Tensor, count: int) -> torch.Tensor:
    """The first ``count`` places of ``wanted``, bool, those where it is true before the others."""
    return torch.sort(wanted.to(torch.uint8), descending=True, stable=True).indices[:count]

"""The same model and step written plainly, as in the 6.S191 lab; nothing of reelmill is imported.

``python plain.py BOOK`` makes one step on the text of a file and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ROWS, LENGTH, EMBEDDING, HIDDEN = 32, 200, 128, 512


class PlainModel(nn.Module):
    """The lab's."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, characters)

    def forward(self, characters: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(characters))
        logits: Tensor = self.output(hidden)
        return logits


def plain_loop(model: nn.Module, tunes: npt.NDArray[np.integer], rows: int) -> Callable[[], object]:
    """A function that makes one step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    generator = np.random.default_rng(0)

    def step() -> float:
        starts = generator.integers(len(tunes) - LENGTH, size=rows)
        inputs = torch.from_numpy(
            np.stack([tunes[start : start + LENGTH] for start in starts]).astype(np.int64)
        )
        targets = torch.from_numpy(
            np.stack([tunes[start + 1 : start + LENGTH + 1] for start in starts]).astype(np.int64)
        )
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Make one step."""
    text = Path(sys.argv[1]).read_text()
    characters = sorted(set(text))
    numbers = {character: number for number, character in enumerate(characters)}
    tunes = np.array([numbers[character] for character in text])
    plain_loop(PlainModel(len(characters)), tunes, ROWS)()
    print("made a step", flush=True)


if __name__ == "__main__":
    main()

"""The same model trained by a plain PyTorch script; nothing of reelmill is imported.

``torchrun … plain_ddp.py SETTINGS``, a JSON object: device, embedding, hidden, vocabulary, rows (of each
process), length, steps, log_every, precision (no or bf16). Prints the characters/s of all processes, a line
for every ``log_every`` steps. The characters are random: no time depends on which they are. Float32 is
float32, without TF32, as in reelmill; nothing else is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel


class PlainModel(nn.Module):
    """Embedding, LSTM, linear."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, characters: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(characters))
        logits: Tensor = self.output(hidden)
        return logits


def main() -> None:
    """Train and tell the rate."""
    wanted = SimpleNamespace(**json.loads(sys.argv[1]))
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if wanted.device == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model: nn.Module = PlainModel(wanted.vocabulary, wanted.embedding, wanted.hidden).to(device)
    if world > 1:
        dist.init_process_group("nccl" if wanted.device == "cuda" else "gloo")
        model = DistributedDataParallel(model, None if device.index is None else [device.index])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    text = np.random.default_rng(0).integers(wanted.vocabulary, size=200_000)
    generator, since = np.random.default_rng(rank), time.perf_counter()
    for step in range(1, wanted.steps + 1):
        starts = generator.integers(len(text) - wanted.length, size=wanted.rows)
        windows = torch.from_numpy(text[starts[:, None] + np.arange(wanted.length + 1)])
        inputs, targets = windows[:, :-1].contiguous().to(device), windows[:, 1:].contiguous().to(device)
        optimizer.zero_grad()
        half = torch.autocast(wanted.device, torch.bfloat16)
        with half if wanted.precision == "bf16" else contextlib.nullcontext():
            loss = cross_entropy(model(inputs).flatten(0, 1).float(), targets.flatten())
        loss.backward()
        optimizer.step()
        if step % wanted.log_every == 0:
            loss.item()  # waits for the device
            now = time.perf_counter()
            if rank == 0:
                print(world * wanted.log_every * wanted.rows * wanted.length / (now - since), flush=True)
            since = now
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

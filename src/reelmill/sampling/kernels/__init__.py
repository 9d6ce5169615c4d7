"""Compiled loops for CPUs, each beside the same in PyTorch's operations, which serve other devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def by_loops(device: torch.device) -> bool:
    """Whether compiled loops compute what lies on ``device``."""
    return device.type == "cpu"

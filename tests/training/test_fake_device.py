"""A step on a GPU never makes the host wait: the GPU would then stand still until the host sends it more.

No GPU is needed to see that. Accelerate trains on the device that ACCELERATE_TORCH_DEVICE names, here one
that is only pretended (``pretended_gpu``). AdamW has a fused step for CPUs and GPUs alone, so the step of the
optimizer is PyTorch's plain one here.
"""

import pytest
import torch
from pretended_gpu import NAME, NO_VALUE, WaitsForTheDevice, no_waiting, pretend_to_pin

from reelmill.training.loop import Trainer, train

FIRST_LOOK = 5  # steps until metrics are due; then the host has to wait for the loss


@pytest.fixture
def steps(monkeypatch):
    """Train on the pretended device from here on; the list of the steps that were made without a wait."""
    made, update, pinned = [], Trainer.update, pretend_to_pin(monkeypatch)

    def update_without_waiting(self, batch):
        with no_waiting(pinned):
            update(self, batch)
        made.append(self.progress.step)

    monkeypatch.setattr(Trainer, "update", update_without_waiting)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", NAME)
    return made


@pytest.mark.parametrize(
    "recipe", ["batches=stream", "batches=random", "exact=true", "accumulation=3", "batches=tunes"]
)
def test_the_host_waits_for_the_device_only_where_metrics_are_due(configured, tmp_path, steps, recipe):
    settings = ("batches=stream", "evaluate_every=0", f"log_every={FIRST_LOOK}", recipe)
    with pytest.raises(NO_VALUE, match="meta") as waited:
        train(configured(*(f"training.{setting}" for setting in settings)), tmp_path / "run")
    assert steps == list(range(1, FIRST_LOOK + 1)), waited.getrepr(style="short")
    assert "nats" in [entry.name for entry in waited.traceback]


@pytest.mark.parametrize(
    "wait",
    [
        lambda tensor: tensor.sum().item(),
        lambda tensor: float(tensor.sum()),
        lambda tensor: bool((tensor > 0).any()),
        lambda tensor: tensor.cpu(),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.nonzero(),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: torch.tensor([1.0, 2.0], device=tensor.device),
        lambda tensor: torch.ones(2).to(tensor.device, non_blocking=True),
        lambda tensor: tensor.copy_(torch.ones(3)),
    ],
)
def test_the_pretended_device_shows_waits(wait):
    tensor = torch.ones(3, device=NAME)
    with no_waiting({}), pytest.raises((WaitsForTheDevice, *NO_VALUE)):
        wait(tensor)


def test_the_pretended_device_lets_pass_what_does_not_wait(monkeypatch):
    pinned = pretend_to_pin(monkeypatch)
    batch = torch.ones(3).pin_memory()
    with no_waiting(pinned):
        tensor = batch.to(NAME, non_blocking=True)
        tensor[1] = 0.5
        assert (tensor * torch.tensor(2.0) + 1).shape == (3,)
        with pytest.raises(WaitsForTheDevice):
            batch.to(NAME)

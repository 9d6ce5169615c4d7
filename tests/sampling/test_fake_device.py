"""A stride of sampling on a GPU never makes the host wait, which a CUDA graph of it could not hold either."""

import pytest
import torch
from pretended_gpu import NAME, NO_VALUE, no_waiting, pretend_to_pin
from torch.utils._python_dispatch import TorchDispatchMode

from reelmill.corpus.vocabulary import Vocabulary
from reelmill.model import TrainedModel, new_network
from reelmill.sampling import engine as engine_module
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings

STRIDE = 32  # characters
# In int8 each operation of the gates and of the output layer rounds by itself.
MOST_KERNELS = {"float32": 81, "bfloat16": 81, "int8": 161}  # as they are; fewer is better
WARP = {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.1}


class Kernels(TorchDispatchMode):
    """Counts operations that are no mere views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.count += not operation.is_view
        return operation(*arguments, **(options or {}))


@pytest.fixture
def kernels(monkeypatch):
    """Sample on a pretended device from here on; the number of kernels of each stride that was done."""
    made = []

    def replayable(work, device):
        def counted():
            with Kernels() as kernels:
                work()
            made.append(kernels.count)

        return counted

    monkeypatch.setattr(engine_module, "sampling_device", lambda _: torch.device(NAME))
    monkeypatch.setattr(engine_module, "replayable", replayable)
    return made


def engine(precision, warp, **beside):
    settings = ModelSettings(embedding_size=8, hidden_size=32, **beside)
    vocabulary = Vocabulary([chr(48 + index) for index in range(60)])
    model = TrainedModel(new_network(settings, vocabulary, seed=3).eval(), vocabulary, settings)
    made = Engine(model, SamplingSettings(precision=precision, slots=64, **warp), seed=1)
    for song in range(100):
        made.submit(Attempt(song, prompt="0:A"[: song % 4]))
    return made


@pytest.mark.parametrize(
    ("warp", "beside"), [({}, {}), (WARP, {}), ({}, {"pointer": 16, "position": 8, "pointer_window": 40})]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_host_waits_only_for_what_the_stride_before_collected(
    kernels, precision, warp, beside, monkeypatch
):
    """Two strides are under way when it first reads a value."""
    sampling = engine(precision, warp, **beside)
    with no_waiting(pretend_to_pin(monkeypatch)), pytest.raises(NO_VALUE, match="meta") as waited:
        sampling.step()
    assert len(kernels) == 2, waited.getrepr(style="short")


@pytest.mark.parametrize("precision", MOST_KERNELS)
def test_kernels_a_character(kernels, precision, monkeypatch):
    pretend_to_pin(monkeypatch)
    with pytest.raises(NO_VALUE):
        engine(precision, {}).step()
    assert kernels[0] / STRIDE <= MOST_KERNELS[precision]

"""A stride of sampling on a GPU never makes the host wait, which a CUDA graph of it could not hold either."""

import pytest
import torch
from pretended_gpu import NAME, NO_VALUE, no_waiting

from reelmill.corpus.vocabulary import Vocabulary
from reelmill.model import TrainedModel, new_network
from reelmill.sampling import engine as engine_module
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings


@pytest.fixture
def strides(monkeypatch):
    """Sample on a pretended device from here on; what is noted at the end of each stride without a wait."""
    made = []

    def replayable(work, device):
        def without_waiting():
            with no_waiting({}):
                work()
            made.append(device.type)

        return without_waiting

    monkeypatch.setattr(engine_module, "sampling_device", lambda _: torch.device(NAME))
    monkeypatch.setattr(engine_module, "replayable", replayable)
    return made


@pytest.mark.parametrize("warp", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.1}])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_host_waits_only_to_see_what_has_ended(strides, precision, warp):
    settings = ModelSettings(embedding_size=8, hidden_size=32, layers=2)
    vocabulary = Vocabulary([chr(48 + index) for index in range(60)])
    model = TrainedModel(new_network(settings, vocabulary.size, seed=3).eval(), vocabulary, settings)
    engine = Engine(model, SamplingSettings(precision=precision, slots=64, **warp), seed=1)
    for song in range(100):
        engine.submit(Attempt(song, prompt="0:A"[: song % 4]))
    with pytest.raises(NO_VALUE, match="meta") as waited:
        engine.step()
    assert strides == [NAME], waited.getrepr(style="short")

"""int8 songs are the same bytes whatever the instruction set, the BLAS and the kernel of the product."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from reelmill.compiled import processor_has
from reelmill.corpus.vocabulary import END, Vocabulary
from reelmill.model import TrainedModel, new_network
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.kernels import avx2
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings

SONGS = 2000  # of each model
WARPS = [{}, {"temperature": 0.8}, {"temperature": 1.1, "top_k": 9, "top_p": 0.9, "min_p": 0.02}]
ATEN, ONEDNN = {"ATEN_CPU_CAPABILITY": "avx2"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}
MKL = {"MKL_CBWR": "COMPATIBLE"}
PLACES = {
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "ATen with AVX2": ATEN,
    "oneDNN with AVX2": ONEDNN,
    "MKL for any processor": MKL,
    "our product": {"PRODUCT": "ours"},
    "our product, all with AVX2": {"PRODUCT": "ours", **ATEN, **ONEDNN, **MKL},
}
SEEN = ("ATen without vectors", "ATen with AVX2", "MKL for any processor")  # in what ``library`` says


def random_model(**beside: int) -> TrainedModel:
    """Two layers, their size no multiple of a vector, with songs of some 150 characters."""
    vocabulary = Vocabulary(["\n", *(chr(40 + index) for index in range(82))])
    settings = ModelSettings(embedding_size=40, hidden_size=100, layers=2, **beside)
    network = new_network(settings, vocabulary, seed=1)
    generator = np.random.default_rng(1)  # of integers: PyTorch's initial values depend on the processor
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(generator.uniform(-0.2, 0.2, parameter.shape)))
        network.output.weight.mul_(5)
        network.output.bias[END] = -2.0
        if network.pointer is not None:
            network.pointer.query.weight.mul_(20)
            network.pointer.gate.bias.fill_(0)
    return TrainedModel(network.eval(), vocabulary, settings)


def texts(model: TrainedModel, warp: dict[str, float]) -> list[str]:
    engine = Engine(model, SamplingSettings(precision="int8", max_length=160, device="cpu", **warp), seed=14)
    found: dict[int, str] = {}
    for song in range(-(-SONGS // len(WARPS))):
        engine.submit(Attempt(song))
    while engine.active:
        found.update({one.song: one.text for one in engine.step().sampled(model.vocabulary)})
    return [text for _, text in sorted(found.items())]


@torch.inference_mode()
def last_logits(model: TrainedModel) -> bytes:
    """Texts seldom show a rounding that differs; logits do."""
    cell = SamplingCell(model, "int8", torch.device("cpu"))
    (hidden, cells), past = torch.zeros(2, cell.layers, 64, cell.hidden_size), cell.past(64, 20)
    for step in range(20):
        characters = (torch.arange(64) + step) % model.vocabulary.size
        logits = cell.step(characters, hidden, cells, past)
        past.text[:, step] = characters
        past.position.add_(1)
    return logits.contiguous().numpy().tobytes()


def here() -> dict[str, str]:
    """Digests of what this process makes, and of what a library here makes of floats."""
    models = random_model(), random_model(pointer=20, pointer_window=60, position=8)
    songs = [text for model in models for warp in WARPS for text in texts(model, warp)]
    numbers = torch.linspace(-9, 9, 8 * 999).reshape(999, 8)
    return {
        "songs": hashlib.sha256(json.dumps(songs).encode()).hexdigest(),
        "logits": hashlib.sha256(b"".join(map(last_logits, models))).hexdigest(),
        "library": hashlib.sha256(torch.softmax(numbers @ numbers.t(), dim=1).numpy().tobytes()).hexdigest(),
    }


def elsewhere(environment: dict[str, str]) -> dict[str, str]:
    """``here`` of a process with this environment."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def mine() -> dict[str, str]:
    return elsewhere({})


@pytest.mark.parametrize("place", PLACES)
def test_two_thousand_songs_are_the_same_everywhere(place: str, mine: dict[str, str]) -> None:
    if PLACES[place].get("PRODUCT") == "ours" and not processor_has("avx2"):
        pytest.skip("this processor has no AVX2: our own product was not run")
    theirs = elsewhere(PLACES[place])
    assert (theirs["logits"], theirs["songs"]) == (mine["logits"], mine["songs"])
    if processor_has("avx512vnni") and place in SEEN:  # else the places are alike, and nothing was shown
        assert theirs["library"] != mine["library"]


if __name__ == "__main__":
    avx2.usable = lambda: os.environ.get("PRODUCT") == "ours"
    print(json.dumps(here()))

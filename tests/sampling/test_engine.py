"""What an attempt becomes depends on its own key and on nothing else."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from reelmill.compiled import processor_has
from reelmill.corpus.vocabulary import END, Vocabulary
from reelmill.errors import RequestError
from reelmill.model import TrainedModel, new_network
from reelmill.sampling import engine as engine_module
from reelmill.sampling import kernels
from reelmill.sampling.block import Sampled
from reelmill.sampling.cell import SamplingCell
from reelmill.sampling.engine import Attempt, Engine
from reelmill.sampling.kernels.choice import MOST_CHARACTERS
from reelmill.sampling.reference import sample
from reelmill.sampling.settings import SamplingSettings
from reelmill.training.settings import ModelSettings

SETTINGS = SamplingSettings(max_length=120)

VNNI = pytest.mark.skipif(
    not processor_has("avx512vnni"), reason="PyTorch's product of integers saturates on this processor"
)


KINDS = {
    "one layer": {"layers": 1},
    "two layers": {"layers": 2},
    "positions": {"position": 8},
    "a pointer": {"pointer": 12, "pointer_window": 40},
    "both": {"layers": 2, "pointer": 16, "position": 8},
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def model(request: pytest.FixtureRequest) -> TrainedModel:
    settings = ModelSettings(embedding_size=24, hidden_size=96, **request.param)
    vocabulary = Vocabulary(["\n", *map(chr, range(48, 107))])  # digits, : < > [ and letters
    network = new_network(settings, vocabulary, seed=3)
    with torch.no_grad():
        network.output.weight.mul_(20)  # a random model with opinions
        if network.pointer is not None:
            network.pointer.gate.bias.fill_(0)
            network.pointer.query.weight.mul_(40)
            network.pointer.distance.copy_(torch.arange(settings.pointer_window) / 16 % 2)
        if network.position is not None:
            network.position.into.weight.mul_(3)
        if network.pointer is not None and network.pointer.bars is not None:
            network.pointer.bars.fill_(2)
        network.output.bias[END] = -1
    return TrainedModel(network.eval(), vocabulary, settings)


def run(model: TrainedModel, settings: SamplingSettings, attempts: list[Attempt]) -> dict[int, Sampled]:
    engine, todo, done = Engine(model, settings, seed=11), list(attempts), {}
    while todo or engine.active:
        while todo and engine.free:
            engine.submit(todo.pop(0))
        done.update({one.song: one for one in engine.step().sampled(model.vocabulary)})
    return done


def attempts(count: int) -> list[Attempt]:
    return [Attempt(song, song % 3, "0:A"[: song % 4]) for song in range(count)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_songs_do_not_depend_on_slots_order_or_company(model: TrainedModel, precision: str) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision, slots=128)
    whole = run(model, settings, attempts(200))
    assert len(whole) == 200 and {sampled.ended for sampled in whole.values()} == {True, False}
    assert run(model, dataclasses.replace(settings, slots=33), attempts(200)[::-1]) == whole
    alone = run(model, dataclasses.replace(settings, slots=1), [attempts(200)[137]])
    assert alone == {137: whole[137]}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("hidden_size", [1024, 500])
def test_logits_have_the_same_bits_at_any_number_of_rows_and_threads(
    precision: str, hidden_size: int
) -> None:
    """Texts seldom show a rounding that differs; logits do."""
    settings = ModelSettings(embedding_size=32, hidden_size=hidden_size, pointer=32, position=8)
    vocabulary = Vocabulary([chr(48 + index) for index in range(75)])
    model = TrainedModel(new_network(settings, vocabulary, seed=5).eval(), vocabulary, settings)
    threads, seen = torch.get_num_threads(), set()
    try:
        for count, rows in ((1, 256), (2, 37), (3, 64), (7, 100), (4, 32)):
            torch.set_num_threads(count)
            cell = SamplingCell(model, precision, torch.device("cpu"))
            state, past = torch.zeros(2, 1, rows, cell.hidden_size), cell.past(rows, 8)
            with torch.inference_mode():
                for step in range(8):
                    characters = (torch.arange(rows) + step) % vocabulary.size
                    logits = cell.step(characters, state[0], state[1], past)
                    past.text[:, step] = characters
                    past.position.add_(1)
            seen.add(logits[:32].numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == 1


def as_on_cuda(
    model: TrainedModel,
    settings: SamplingSettings,
    replay: Callable[[Callable[[], None], torch.device], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[int, Sampled]:
    """Songs of an engine that goes on as it does on a CUDA device, with ``replay`` in a graph's place."""
    monkeypatch.setattr(engine_module, "replayable", replay)
    monkeypatch.setattr(kernels, "by_loops", lambda _: False)
    engine, todo, done = Engine(model, settings, seed=11), attempts(60), {}
    while todo or engine.active:
        while todo and engine.free:
            engine.submit(todo.pop())
        done.update({one.song: one for one in engine.step().sampled(model.vocabulary)})
    return done


@VNNI
def test_songs_by_a_gpus_operations_and_strides_are_those_of_the_loops(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(model, SETTINGS, attempts(60))
    settings = dataclasses.replace(SETTINGS, slots=40)
    assert as_on_cuda(model, settings, lambda work, _: work, monkeypatch) == expected


@VNNI
@pytest.mark.parametrize("warp", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.1}])
def test_a_stride_can_be_replayed(
    model: TrainedModel, warp: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph keeps is the operations and the tensors of one run. A trace keeps the same.

    So a decision taken in Python, a tensor made anew or a look at a value would change songs here as well.
    """
    settings = dataclasses.replace(SETTINGS, slots=40, **warp)
    expected, traces = run(model, settings, attempts(60)), []

    def traced(work: Callable[[], None], _: torch.device) -> Callable[[], None]:
        work()
        traces.append(make_fx(lambda: (work(), torch.zeros(()))[1])())
        return traces[-1]

    assert as_on_cuda(model, settings, traced, monkeypatch) == expected
    assert len(traces) == 1 and len(traces[0].graph.nodes) > 16 * 30


@pytest.mark.parametrize("warp", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}])
def test_equal_to_the_plain_loop(model: TrainedModel, warp: dict[str, float]) -> None:
    settings = dataclasses.replace(SETTINGS, precision="float32", **warp)
    fast = run(model, settings, attempts(12))
    plain = {a.song: sample(model, settings, 11, a) for a in attempts(12)}
    # The two round their sums otherwise; a draw that falls on a boundary may differ, in rare songs.
    assert sum(fast[song] == plain[song] for song in plain) >= 11


def test_prompt_stands_at_the_start_and_attempts_differ(model: TrainedModel) -> None:
    done = run(model, SETTINGS, [Attempt(0, 0, "B:0"), Attempt(1, 0, "B:0"), Attempt(2, 0)])
    assert done[0].text.startswith("B:0") and done[1].text.startswith("B:0")
    assert done[0].text != done[1].text
    retry = run(model, SETTINGS, [Attempt(0, 1, "B:0")])
    assert retry[0].text != done[0].text


def test_a_song_is_cut_at_max_length(model: TrainedModel) -> None:
    done = run(model, dataclasses.replace(SETTINGS, max_length=5), attempts(40))
    cut = [sampled for sampled in done.values() if not sampled.ended]
    assert cut and all(len(sampled.text) == 5 for sampled in cut)
    longer = run(model, SETTINGS, attempts(40))
    assert all(longer[s.song].text.startswith(s.text) for s in done.values())


def test_a_prompt_outside_the_vocabulary_is_refused_by_name(model: TrainedModel) -> None:
    with pytest.raises(RequestError, match="é"):
        Engine(model, SETTINGS, seed=0).submit(Attempt(0, 0, "é"))
    with pytest.raises(RequestError, match="max_length is 120"):
        Engine(model, SETTINGS, seed=0).submit(Attempt(0, 0, "A" * 120))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_all_tensors_of_a_stride_are_on_its_device(
    model: TrainedModel, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of the meta device have no values and, like those of CUDA, go with no others."""
    monkeypatch.setattr(engine_module, "sampling_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(engine_module, "replayable", lambda work, _: work)
    warp = {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.1}
    engine = Engine(model, SamplingSettings(precision=precision, slots=1500, **warp), seed=11)
    for attempt in attempts(2000):
        engine.submit(attempt)
    with torch.inference_mode():
        engine._fit()
        engine._advance_stride()
    assert engine._rows.current.shape == (1500 if precision == "int8" else 2048,)
    assert engine._rows.current.is_meta


def test_more_characters_than_their_weights_can_be_summed_for_are_refused() -> None:
    vocabulary = Vocabulary([chr(0x10000 + index) for index in range(MOST_CHARACTERS)])
    settings = ModelSettings(embedding_size=1, hidden_size=1)
    model = TrainedModel(new_network(settings, vocabulary, seed=3), vocabulary, settings)
    with pytest.raises(RequestError, match=f"{vocabulary.size} characters: the most is {MOST_CHARACTERS}"):
        Engine(model, SETTINGS, seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused(model: TrainedModel) -> None:
    with pytest.raises(RequestError, match="no CUDA device"):
        Engine(model, dataclasses.replace(SETTINGS, device="cuda"), seed=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: GPU sampling was not run")
@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_songs_on_cuda_do_not_depend_on_slots(model: TrainedModel, precision: str) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision, slots=128, device="cuda")
    whole = run(model, settings, attempts(200))
    assert run(model, dataclasses.replace(settings, slots=64), attempts(200)[::-1]) == whole
    if precision == "int8":
        assert run(model, dataclasses.replace(settings, device="cpu"), attempts(200)) == whole


def test_a_model_that_gives_no_numbers_is_said_to(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ("output.weight", "output.bias", "layers.0.bias_ih_l0", "layers.0.weight_hh_l0")
    beside = ("pointer.key.weight", "pointer.distance", "position.parts.2.weight", "position.into.weight")
    for name in [*known, *(name for name in beside if name in model.network.state_dict())]:
        broken = copy.deepcopy(model)
        with torch.no_grad():
            broken.network.get_parameter(name).view(-1)[5] = torch.nan
        for loops in (True, False):
            monkeypatch.setattr(kernels, "by_loops", lambda _, loops=loops: loops)
            with pytest.raises(RequestError, match=r"no numbers.*an earlier checkpoint"):
                run(broken, SETTINGS, attempts(60))

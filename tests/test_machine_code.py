"""Functions made by LLVM give the same bits whatever instructions the processor has."""

import platform
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np
import pytest

from reelmill.audio import pcm
from reelmill.machine_code import Code, number
from reelmill.sampling import gates, products

ROWS, SIZE, LINES = 5, 64, 3


def turned(function: Callable[..., None]) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    product, table, hidden, cell = (
        (generator.standard_normal(shape) * 20).astype(np.float32)
        for shape in ((ROWS, 4 * SIZE), (LINES, 4 * SIZE), (ROWS, SIZE), (ROWS, SIZE))
    )
    product[0, :8] = np.nan, np.inf, -np.inf, 0.0, -0.0, 88.0, -88.0, 1e-40
    function(product, table, generator.integers(LINES, size=ROWS), hidden, cell, ROWS, SIZE)
    return [hidden, cell]


def converted(function: Callable[..., None], kind: type, *more: np.ndarray) -> list[np.ndarray]:
    state = np.random.default_rng(2).uniform(-1, 1, 4096).astype(np.float32)
    result = np.zeros(4096, kind)
    function(state, *more, result, len(state))
    return [result]


def highest(function: Callable[..., None]) -> list[np.ndarray]:
    found = np.zeros(32, np.uint32)
    function(np.random.default_rng(3).standard_normal(1000).astype(np.float32), found, 1000)
    return [found]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86 processors only")
@pytest.mark.parametrize("processor", ["x86-64", "haswell", "znver4"])
@pytest.mark.parametrize(
    ("module", "name", "use"),
    [
        (gates, "_function", turned),
        (products, "_to_levels", lambda function: converted(function, np.uint8)),
        (pcm, "_peak", highest),
        (
            pcm,
            "_to_integers",
            lambda function: converted(function, np.int16, np.full(8, 30000.0, np.float32)),
        ),
    ],
)
def test_same_bits(
    module: object,
    name: str,
    use: Callable[[Callable[..., None]], list[np.ndarray]],
    processor: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for this processor, so for one without AVX, and for others with more, where this one has it, too."""
    function = getattr(module, name)
    here = use(function())
    features = {"x86-64": [], "haswell": ["avx2", "fma"], "znver4": ["avx512f", "avx512bw", "avx512vl"]}
    mine = llvm.get_host_cpu_features()
    if not all(mine.get(feature) for feature in features[processor]):
        pytest.skip(f"this processor cannot run what is made for {processor}: that was not run")
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: processor)
    monkeypatch.setattr(llvm, "get_host_cpu_features", llvm.FeatureMap)
    there = use(function.__wrapped__())
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(here, there, strict=True))


def test_a_loop_ends_where_it_should() -> None:
    """In steps of 4: each place once, and none beyond the end."""
    code = Code(places=1, numbers=1)
    counts, stop = code.arguments
    with code.loop(stop, 4) as along:
        place = code.at(counts, code.builder.mul(along.at, number(8)))
        code.builder.store(code.builder.add(code.load(place, along.at.type), number(1)), place, align=8)
    seen = np.zeros(12, np.int64)
    code.finished()(seen, 9)
    assert seen.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]

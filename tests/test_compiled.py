"""Compiled loops give the same bits whatever instructions a processor has, and are kept for later."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reelmill.compiled import processor_has

NEEDED = {"x86-64": [], "haswell": ["avx2", "fma"]}


def digests() -> dict[str, str]:
    """What each loop makes of the same numbers, some of them special."""
    from reelmill.audio import pcm
    from reelmill.sampling.kernels import choice, gates, levels, streams
    from reelmill.sampling.settings import SamplingSettings

    generator = np.random.default_rng(1)
    product, table, hidden, cell, logits = (
        torch.from_numpy((generator.standard_normal(shape) * 20).astype(np.float32))
        for shape in ((5, 256), (3, 256), (5, 64), (5, 64), (300, 83))
    )
    product[0, :8] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 88.0, -88.0, 1e-40])
    songs, uniforms = torch.arange(300), torch.from_numpy(generator.random(300, np.float32))
    warped = SamplingSettings(temperature=0.7, top_k=20, top_p=0.9, min_p=0.01)
    samples = generator.uniform(-1, 1, 4097).astype(np.float32)
    integers = np.zeros(4097, np.int16)
    gates.turn(product, table, torch.from_numpy(generator.integers(3, size=5)), hidden, cell)
    pcm.to_integers(samples, 30000.0, integers)
    found = {
        "hidden": hidden.numpy(),
        "cell": cell.numpy(),
        "levels": levels.levels(torch.from_numpy(samples)).numpy(),
        "chosen": choice.choose(logits, uniforms, SamplingSettings()).numpy(),
        "chosen of some": choice.choose(logits, uniforms, warped).numpy(),
        "random numbers": streams.blocks(7, songs, songs, songs, 33).numpy(),
        "peak": np.float64(pcm.peak(samples)),
        "16 bits": integers,
    }
    # Of numbers that are none, processors differ in bits that nobody reads.
    return {name: hashlib.sha256(np.nan_to_num(made).tobytes()).hexdigest() for name, made in found.items()}


def made_by(processor: str, cache: Path) -> dict[str, str]:
    """``digests`` of loops compiled for another processor."""
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "REELMILL_CACHE": str(cache)}
    return json.loads(said(__file__, environment))


def said(script: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86 processors only")
@pytest.mark.parametrize("processor", NEEDED)
def test_same_bits(processor: str, tmp_path: Path) -> None:
    """As for this processor, so for one without AVX, and for one whose additions could be fused."""
    if not all(map(processor_has, NEEDED[processor])):
        pytest.skip(f"this processor cannot run what is made for {processor}: that was not run")
    assert made_by(processor, tmp_path) == digests()


PEAK = """
import numba, numpy, sys
from reelmill.audio import pcm
assert pcm.peak(numpy.ones(3, numpy.float32)) == 1.0
print(sum(pcm._peak.stats.cache_hits.values()), numba.config.CACHE_DIR)
"""


def test_what_is_compiled_is_there_for_the_next_process(tmp_path: Path) -> None:
    own = str(tmp_path / "the user's own")
    environment = {"REELMILL_CACHE": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": own}
    assert said(PEAK, environment, "-c") == f"0 {own}\n"
    assert said(PEAK, environment, "-c") == f"1 {own}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where no directory can be made")
    assert said(PEAK, {"REELMILL_CACHE": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}, "-c") == "0 \n"


if __name__ == "__main__":
    print(json.dumps(digests()))

"""Samples as 16-bit PCM: the peak of a song's samples, and the integers they are stored as.

NumPy needs two passes for the one and three for the other, which together take a fifth of a rendering's time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from reelmill.machine_code import FLOATS, INTEGERS, LANES, ROUNDING, Code, floats, integers, number

_VECTORS = 4  # at a time, so that the processor has something to do while it waits for one
_STEP = _VECTORS * LANES
_SIGNLESS = 0x7FFFFFFF


def peak(samples: NDArray[np.float32]) -> float:
    """The largest magnitude of ``samples``, contiguous and of any shape; infinity where one is no number."""
    samples = samples.reshape(-1)
    if len(samples) < _STEP:
        samples = np.pad(samples, (0, _STEP - len(samples)))
    found = np.empty(_STEP, np.uint32)
    _peak()(samples, found, len(samples))
    highest = found.max(keepdims=True).view(np.float32)[0]
    return np.inf if np.isnan(highest) else float(highest)


def to_integers(samples: NDArray[np.float32], scale: float, result: NDArray[np.int16]) -> None:
    """Write ``samples`` times ``scale``, rounded half to even, to ``result`` of the same shape; both are
    contiguous, and no product is larger than int16 holds.
    """
    samples, result = samples.reshape(-1), result.reshape(-1)
    scales = np.full(LANES, scale, np.float32)
    if len(samples) < _STEP:
        result[:] = np.rint(samples * scales[0])
    else:
        _to_integers()(samples, scales, result, len(samples))


@functools.cache
def _peak() -> Callable[..., None]:
    # Without their signs, the bit patterns of floats (IEEE 754) are in the floats' order, with infinity above
    # all numbers, and above it what is none.
    code = Code(places=2, numbers=1)
    builder, (samples, found, count) = code.builder, code.arguments
    with code.loop(count, _STEP, carried=_VECTORS) as along:
        start = code.last_whole(along.at, count, _STEP)
        for index, highest in enumerate(along.carried):
            place = builder.mul(builder.add(start, number(index * LANES)), number(4))
            pattern = builder.and_(code.load(code.at(samples, place), INTEGERS), integers(_SIGNLESS))
            higher = builder.icmp_unsigned(">", pattern, highest)
            along.new.append(builder.select(higher, pattern, highest))
    for index, highest in enumerate(along.new):
        code.store(highest, code.at(found, number(index * LANES * 4)))
    return code.finished()


@functools.cache
def _to_integers() -> Callable[..., None]:
    code = Code(places=3, numbers=1)
    builder, (samples, scales, result, count) = code.builder, code.arguments
    scale = code.load(scales, FLOATS)
    with code.loop(count, _STEP) as along:
        start = code.last_whole(along.at, count, _STEP)
        for index in range(_VECTORS):
            at = builder.add(start, number(index * LANES))
            sample = code.load(code.at(samples, builder.mul(at, number(4))), FLOATS)
            shifted = builder.fadd(builder.fmul(sample, scale), floats(ROUNDING))
            short = builder.trunc(builder.bitcast(shifted, INTEGERS), ir.VectorType(ir.IntType(16), LANES))
            code.store(short, code.at(result, builder.mul(at, number(2))))
    return code.finished()

"""Loops compiled for this processor by numba, and kept for the next process.

For the few loops for which no library has a fast function. Arithmetic is done as it is written: nothing is
reordered, and no multiplication is fused with an addition, so results are the same on every processor.

Compiled code lies in the cache directory (``reelmill.cache``), which nodes with other processors may share,
in a folder of this processor and of the kernels as they are: numba itself looks only at the one file in which
a function stands. Where nothing can be written, every process compiles for itself, which takes seconds.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba

from reelmill.cache import cache_directory

Function = TypeVar("Function", bound=Callable[..., Any])

_ROOM = 1 << 20  # bytes; more than all compiled code takes


def compiled(function: Function) -> Function:
    """``function`` of arrays and numbers, compiled when it is first called; other threads run beside it."""
    directory = _directory()
    before = numba.config.CACHE_DIR
    # Set here alone: to set it by NUMBA_CACHE_DIR would move the user's own functions, or come too late.
    numba.config.CACHE_DIR = str(directory or "")
    try:
        compile_lazily = numba.njit(nogil=True, error_model="numpy", cache=directory is not None)
        result: Function = compile_lazily(function)
    finally:
        numba.config.CACHE_DIR = before
    return result


def inlined(function: Function) -> Function:
    """``function`` of numbers, compiled into the ``compiled`` functions that call it."""
    result: Function = numba.njit(inline="always", error_model="numpy")(function)
    return result


def processor_has(feature: str) -> bool:
    """Whether LLVM knows this processor to have, for example, ``avx2``."""
    return bool(llvm.get_host_cpu_features().get(feature))


@functools.cache
def _directory() -> Path | None:
    """Where compiled code is kept; None where nothing can be."""
    digest = hashlib.sha256(llvm.get_host_cpu_features().flatten().encode())
    for source in [Path(__file__), *sorted(Path(__file__).parent.glob("*/kernels/*.py"))]:
        digest.update(source.read_bytes())
    directory = cache_directory() / "compiled" / f"{llvm.get_host_cpu_name()}-{digest.hexdigest()[:16]}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not any(directory.iterdir()):
            with tempfile.TemporaryFile(dir=directory) as probe:
                probe.write(bytes(_ROOM))
    except OSError:
        return None
    return directory

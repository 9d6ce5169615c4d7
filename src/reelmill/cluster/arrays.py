"""Arrays longer than Slurm allows, in parts that together keep the cap on concurrent tasks.

Slurm's cap (``%64``) holds for one array. Parts are of equal length and share the cap, so that they end
together and no place stays empty; parts beyond the cap wait for another part's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from reelmill.cluster import queue
from reelmill.errors import IncompleteError, RequestError

USUAL_SIZE = 1001
"""Slurm's default of MaxArraySize, which is one more than the highest index."""


@dataclass(frozen=True)
class Part:
    """Elements 0 … ``size`` - 1 take the shares from ``first`` on, ``cap`` of them at once; the part starts
    once the part ``after`` (by number) has ended, None: at once.
    """

    first: int
    size: int
    cap: int
    after: int | None = None


def array_parts(tasks: int, cap: int, max_array_size: int) -> list[Part]:
    """``tasks`` in as few arrays as each stay under ``max_array_size``; never more than ``cap`` run at
    once.
    """
    sizes = _split(tasks, -(-tasks // max(1, max_array_size - 1)))
    caps = _split(cap, min(cap, len(sizes)))
    lanes = len(caps)
    return [
        Part(first, size, caps[number % lanes], number - lanes if number >= lanes else None)
        for number, (first, size) in enumerate(zip(accumulate([0, *sizes]), sizes, strict=False))
    ]


def max_array_size() -> int:
    """MaxArraySize as Slurm says it. Raises what ``queue.ask`` raises."""
    return int(queue.configuration().get("MaxArraySize", USUAL_SIZE))


def likely_max_array_size() -> int:
    """The same, and Slurm's default where no Slurm answers."""
    try:
        return max_array_size()
    except (IncompleteError, RequestError):
        return USUAL_SIZE


def _split(number: int, parts: int) -> list[int]:
    """``number`` as so many numbers that differ by at most 1, larger ones first."""
    return [number // parts + (part < number % parts) for part in range(parts)]

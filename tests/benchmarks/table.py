"""One shape for every figure: what was measured, beside what it is compared with in the same run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def row(
    name: str,
    value: float,
    unit: str,
    compared_with: str = "",
    ratio: float | None = None,
    goal: str = "",
    met: bool | None = None,
) -> Row:
    """``ratio`` is ``value`` over that of ``compared_with``; ``met`` says whether it reaches ``goal``.

    ``met`` is None if there is no goal, or if the spread of the measurements does not tell.
    """
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "compared_with": compared_with,
        "ratio": ratio,
        "goal": goal,
        "met": met,
    }


def at_most(limit: float, ratios: Sequence[float]) -> dict[str, Any]:
    """``ratio``, ``goal`` and ``met``: the median of ``ratios`` should not be more than ``limit``."""
    lower, upper = spread(ratios)
    met = True if upper <= limit else False if lower > limit else None
    return {"ratio": statistics.median(ratios), "goal": f"≤ {limit:g}", "met": met}


def at_least(limit: float, ratios: Sequence[float]) -> dict[str, Any]:
    """The same if it should not be less than ``limit``."""
    lower, upper = spread(ratios)
    met = True if lower >= limit else False if upper < limit else None
    return {"ratio": statistics.median(ratios), "goal": f"≥ {limit:g}", "met": met}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median (order statistics, normal approximation)."""
    ordered = sorted(values)
    left_out = max(0, int(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered))))
    return ordered[left_out], ordered[-1 - left_out]


def table(rows: Iterable[Row]) -> str:
    """``rows`` in Markdown."""
    lines = ["| measured | value | compared with | ratio | goal | met |", "|---|---:|---|---:|---|---|"]
    for item in rows:
        ratio = "" if item["ratio"] is None else f"{item['ratio']:.3f}"
        met = {None: "within noise" if item["goal"] else "", True: "yes", False: "NO"}[item["met"]]
        value = f"{item['value']:.4g} {item['unit']}"
        lines.append(
            f"| {item['name']} | {value} | {item['compared_with']} | {ratio} | {item['goal']} | {met} |"
        )
    return "\n".join(lines)

"""One shape for every figure: what was measured, beside what it is compared with in the same run."""

from __future__ import annotations

from collections.abc import Iterable
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
    """``ratio`` is ``value`` over that of ``compared_with``; ``met`` says whether it reaches ``goal``."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "compared_with": compared_with,
        "ratio": ratio,
        "goal": goal,
        "met": met,
    }


def at_most(limit: float, ratio: float) -> dict[str, Any]:
    """The fields ``ratio``, ``goal`` and ``met`` of a ratio that should not be more than ``limit``."""
    return {"ratio": ratio, "goal": f"≤ {limit:g}", "met": ratio <= limit}


def at_least(limit: float, ratio: float) -> dict[str, Any]:
    """The same of a ratio that should not be less than ``limit``."""
    return {"ratio": ratio, "goal": f"≥ {limit:g}", "met": ratio >= limit}


def table(rows: Iterable[Row]) -> str:
    """``rows`` in Markdown."""
    lines = ["| measured | value | compared with | ratio | goal | met |", "|---|---:|---|---:|---|---|"]
    for item in rows:
        ratio = "" if item["ratio"] is None else f"{item['ratio']:.3f}"
        met = "" if item["met"] is None else "yes" if item["met"] else "NO"
        value = f"{item['value']:.4g} {item['unit']}"
        lines.append(
            f"| {item['name']} | {value} | {item['compared_with']} | {ratio} | {item['goal']} | {met} |"
        )
    return "\n".join(lines)

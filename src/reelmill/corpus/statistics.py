"""What a built corpus is made of, in numbers, and the same for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

import datasets
import numpy as np

from reelmill.corpus.division import Division, column
from reelmill.corpus.split import BRIDGE, SIDES

_SHOWN = 8


def summarize(examined: datasets.Dataset, parts: Division) -> dict[str, Any]:
    """Statistics of a build, all plain values. ``read`` = ``kept`` + ``bridged`` + the sum of ``dropped``.

    ``pass_rates`` are shares of the kept tunes; ``near_duplicates`` counts the tunes that are not alone in
    their cluster.
    """
    kept = parts.sides >= 0
    rows = parts.rows[kept]
    reasons = Counter(reason for reason in column(examined, "reason").tolist() if reason)
    copies = len(examined) - sum(reasons.values()) - len(parts.rows)
    if copies:
        reasons["an exact copy of another tune"] = copies
    _, sizes = np.unique(parts.clusters[kept], return_counts=True)
    characters, distinct = _characters(examined.select_columns(["text"]).select(rows))
    by_side = [np.flatnonzero(parts.sides[kept] == side) for side in range(len(SIDES))]
    return {
        "read": len(examined),
        "kept": len(rows),
        "dropped": dict(reasons.most_common()),
        "bridged": int((parts.sides == BRIDGE).sum()),
        "tunes": {name: len(index) for name, index in zip(SIDES, by_side, strict=True)},
        "characters": {
            name: int(characters[index].sum()) for name, index in zip(SIDES, by_side, strict=True)
        },
        "distinct_characters": distinct,
        "clusters": len(sizes),
        "largest_cluster": int(sizes.max()),
        "near_duplicates": int(sizes[sizes > 1].sum()),
        "pass_rates": {
            tier: round(float(column(examined, tier)[rows].mean()), 6) for tier in ("headers", "bars", "form")
        },
        **{
            f"{name}s": dict(Counter(column(examined, name)[rows].tolist()).most_common())
            for name in ("source", "meter", "key", "rhythm")
        },
    }


def describe(statistics: dict[str, Any]) -> str:
    """The statistics as lines for people."""
    lines = [
        f"tunes      {statistics['kept']:,} kept of {statistics['read']:,}: "
        + ", ".join(f"{count:,} {name}" for name, count in statistics["tunes"].items()),
        f"characters {sum(statistics['characters'].values()):,}, "
        f"{statistics['distinct_characters']} different ones",
        f"clusters   {statistics['clusters']:,}; {statistics['near_duplicates']:,} tunes have a near-copy, "
        f"at most {statistics['largest_cluster']} together",
        "valid      " + ", ".join(f"{tier} {rate:.1%}" for tier, rate in statistics["pass_rates"].items()),
    ]
    dropped = dict(statistics["dropped"])
    if statistics["bridged"]:
        dropped["like tunes on two sides of the split"] = statistics["bridged"]
    lines += [f"dropped    {count:,} {reason}" for reason, count in dropped.items()]
    lines += [
        f"{name:10} {_most_common(statistics[name])}" for name in ("sources", "meters", "keys", "rhythms")
    ]
    return "\n".join(lines)


def _most_common(counts: dict[str, int]) -> str:
    shown = [f"{value or 'none'} {count:,}" for value, count in list(counts.items())[:_SHOWN]]
    others = f", {len(counts) - _SHOWN:,} others" if len(counts) > _SHOWN else ""
    return ", ".join(shown) + others


def _characters(tunes: datasets.Dataset) -> tuple[np.ndarray, int]:
    """(length of each tune, number of distinct characters), read a portion at a time."""
    lengths: list[int] = []
    seen: set[str] = set()
    for batch in tunes.iter(batch_size=1000):
        lengths += map(len, batch["text"])
        seen.update(*batch["text"])
    return np.array(lengths, dtype=np.int64), len(seen)

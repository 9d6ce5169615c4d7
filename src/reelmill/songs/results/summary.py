"""Totals and distributions of a songs directory: what ``summary.json`` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from reelmill.audio.features import labels
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.totals import Counts

MEASURED = (
    "characters", "notes", "midi_seconds", "tempo_bpm", "attempts",
    "duration_seconds", "spectral_centroid_hz", "loudness_dbfs",
)  # fmt: skip
_NAMED = ("meter", "key", "rhythm")
_MOST_COMMON = 20
_QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}


class Summary:
    """Gathers songs one by one, a few numbers of each, and then says what they are like."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {name: [] for name in MEASURED}
        self._names: dict[str, Counter[str]] = {name: Counter() for name in _NAMED}
        self._labels: Counter[str] = Counter()

    def add(self, facts: dict[str, Any]) -> None:
        """Count a song; the facts of its audio half are left out if they are None."""
        for name, values in self._values.items():
            if facts.get(name) is not None:
                values.append(facts[name])
        for name, counter in self._names.items():
            counter[facts[name]] += 1
        if facts.get("spectral_centroid_hz") is not None:
            self._labels.update(labels(facts))

    def to_json(self, plan: Plan, text: Counts, audio: Counts, size: dict[str, int]) -> dict[str, Any]:
        """The whole of summary.json; a function of what the directory holds."""
        made = text.attempts.get("made", 0)
        return {
            "songs": text.songs,
            "planned": plan.songs,
            "failed": {"count": len(text.failed), "reasons": _reasons(text.failed.values())},
            "without_sound": _silent(text, audio) if plan.audio else None,
            "attempts": text.attempts,
            "pass_rate": {
                tier: round(count / made, 6)
                for tier, count in text.attempts.items()
                if tier != "made" and made
            },
            "distributions": {name: _distribution(values) for name, values in self._values.items() if values},
            "most_common": {name: dict(_ranked(counter)) for name, counter in self._names.items()},
            "labels": dict(sorted(self._labels.items())),
            "bytes": size,
            "seed": plan.seed,
            "model": plan.model,
            "fingerprint": plan.fingerprint,
        }


def _silent(text: Counts, audio: Counts) -> dict[str, Any]:
    silent = [reason for song, reason in audio.failed.items() if song not in text.failed]
    return {"count": len(silent), "reasons": _reasons(silent)}


def _reasons(reasons: Iterable[str]) -> dict[str, int]:
    return dict(_ranked(Counter(reasons)))


def _ranked(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_MOST_COMMON]


def _distribution(values: list[float]) -> dict[str, float]:
    array = np.array(values, dtype=np.float64)
    quantiles = {name: round(float(np.quantile(array, q)), 3) for name, q in _QUANTILES.items()}
    return {
        "total": round(float(array.sum()), 3),
        "mean": round(float(array.mean()), 3),
        "min": float(array.min()),
        **quantiles,
        "max": float(array.max()),
    }

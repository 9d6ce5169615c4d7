"""The course of a training run, from its metrics.jsonl: plots and headline numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from reelmill.report.plots import Plot, Series, curves
from reelmill.tracking.metrics import Record

# (title, unit, names in metrics.jsonl, whether the axis begins at 0): what is there is plotted, each kind of
# record as a line
_PANELS = (
    ("Loss", "nats per character", ("loss",), False),
    ("Bits per character", "bits", ("bits_per_char",), False),
    ("Learning rate", "learning rate", ("learning_rate",), True),
    ("Throughput", "characters per second", ("characters_per_second", "chars_per_second"), True),
)
_LABELS = {"train": "training", "evaluation": "held-out tunes"}


def training_plots(records: Sequence[Record]) -> list[Plot]:
    """One plot for each quantity that the log has."""
    plots = []
    for title, unit, names, from_zero in _PANELS:
        series = list(_series(records, names))
        if series:
            plots.append(curves(title, series, unit, from_zero))
    return plots


def training_numbers(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(label, value) pairs for the head of the page."""
    numbers = [("steps", f"{max(record['step'] for record in records):,}")] if records else []
    held_out = [item for item in _series(records, ("bits_per_char",)) if item.label == _LABELS["evaluation"]]
    if held_out:
        best = min(held_out[0].y)
        step = held_out[0].x[list(held_out[0].y).index(best)]
        numbers.append((f"bits per character, held-out, best (step {step:.0f})", f"{best:.3f}"))
    loss = [item for item in _series(records, ("loss",)) if item.label == _LABELS["train"]]
    if loss:
        numbers.append(("training loss at the end, nats per character", f"{loss[0].y[-1]:.3f}"))
    rate = list(_series(records, ("characters_per_second", "chars_per_second")))
    if rate:
        numbers.append(("characters per second, median", f"{median(rate[0].y):,.0f}"))
    return numbers


def _series(records: Sequence[Record], names: Sequence[str]) -> Iterator[Series]:
    for kind in dict.fromkeys(record.get("kind", "train") for record in records):
        for name in names:
            points = [
                (record["step"], float(record[name]))
                for record in records
                if record.get("kind", "train") == kind and isinstance(record.get(name), (int, float))
            ]
            if points:
                x, y = zip(*points, strict=True)
                yield Series(_LABELS.get(kind, kind), x, y, marked=kind != "train")

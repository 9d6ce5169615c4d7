"""The course of a training run, from its metrics.jsonl: plots and headline numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from reelmill.report.plots import Plot, Series, curves
from reelmill.tracking.metrics import Record

_HELD_OUT = "validation"
_RATES = ("chars_per_second",)
_BITS = ("bits_per_char", "validation_bits_per_char")
# (title, names in metrics.jsonl, whether the axis begins at 0): what is there is plotted
_PANELS = (
    ("Bits per character", _BITS, False),
    ("Learning rate", ("learning_rate",), True),
    ("Characters per second", _RATES, True),
)


def training_plots(records: Sequence[Record]) -> list[Plot]:
    """One plot for each quantity that the log has and that changes."""
    plots = []
    for title, names, from_zero in _PANELS:
        series = list(_series(records, names))
        if len({value for item in series for value in item.y}) > 1:
            plots.append(curves(title, series, from_zero))
    return plots


def training_numbers(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(label, value) pairs for the head of the page."""
    numbers = [("steps", f"{max(record['step'] for record in records):,}")] if records else []
    for item in _series(records, _BITS):
        if item.label == _HELD_OUT:
            best = min(item.y)
            step = item.x[list(item.y).index(best)]
            numbers.append((f"bits per character, validation, best (step {step:.0f})", f"{best:.3f}"))
        else:
            numbers.append(("bits per character, training, at the end", f"{item.y[-1]:.3f}"))
    for item in _series(records, _RATES):
        numbers.append(("characters per second, median", f"{median(item.y):,.0f}"))
    return numbers


def _series(records: Sequence[Record], names: Sequence[str]) -> Iterator[Series]:
    for name in names:
        points = [
            (record["step"], float(record[name]))
            for record in records
            if isinstance(record.get(name), (int, float))
        ]
        if points:
            x, y = zip(*points, strict=True)
            held_out = name.startswith("validation_")
            yield Series(_HELD_OUT if held_out else "training", x, y, marked=held_out)

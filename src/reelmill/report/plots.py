"""Plots as inline SVG: text stays text, colours follow the page, the same data give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK = "#010203"  # stands for the page's own text colour
_GRID = "#040506"
_COLOURS = ("var(--accent)", "var(--accent-2)", "var(--accent-3)")
_STANDINS = ("#0a0b0c", "#0d0e0f", "#101112")
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = False  # few points, each worth seeing


@dataclass(frozen=True)
class Plot:
    """A finished plot with what a person who cannot see it should be told."""

    title: str
    svg: Markup


def histogram(title: str, values: Sequence[float], xlabel: str) -> Plot:
    """How often which value occurs; the top percent is gathered in the last bar."""
    data = np.asarray(values, dtype=float)
    low, high = data.min(), np.quantile(data, 0.99)
    edges = np.linspace(low, high if high > low else low + 1, min(40, max(8, int(len(data) ** 0.5))) + 1)
    median = float(np.median(data))

    def draw(axes: Axes) -> None:
        axes.hist(np.clip(data, edges[0], edges[-1]), bins=list(edges), color=_STANDINS[0], alpha=0.85)
        axes.axvline(median, color=_STANDINS[1], linewidth=1.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(xlabel)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))

    told = f"{title} of {len(data)} songs: median {median:.4g}, from {low:.4g} to {data.max():.4g} ({xlabel})"
    return Plot(title, _svg(title, told, draw))


def bars(title: str, series: Mapping[str, Sequence[float]], names: Sequence[str], xlabel: str) -> Plot:
    """Shares of the same ``names``, a bar each, of several populations side by side."""
    width = 0.8 / len(series)
    places = np.arange(len(names))

    def draw(axes: Axes) -> None:
        for number, ((label, shares), colour) in enumerate(zip(series.items(), _STANDINS, strict=False)):
            left = places + (number - (len(series) - 1) / 2) * width
            axes.bar(left, [100 * share for share in shares], width, color=colour, label=label)
        axes.legend()
        every = 1 + len(names) // 16
        axes.set_xticks(places[::every], list(names)[::every])
        if max(map(len, names)) > 4:
            for text in axes.get_xticklabels():
                text.set(rotation=40, horizontalalignment="right")
        axes.xaxis.grid(visible=False)
        axes.set_ylabel("%")
        axes.set_xlabel(xlabel)
        axes.yaxis.set_major_locator(MaxNLocator(4))

    told = f"{title}: " + "; ".join(
        f"{label} most often {names[int(np.argmax(shares))]} ({max(shares):.0%})"
        for label, shares in series.items()
    )
    return Plot(title, _svg(title, told, draw))


def curves(title: str, series: Sequence[Series], from_zero: bool = False) -> Plot:
    """Lines over training steps. Long series are thinned by averaging neighbours."""
    shown = [_thinned(item) for item in series]

    def draw(axes: Axes) -> None:
        for item, colour in zip(shown, _STANDINS, strict=False):
            marker = "o" if item.marked and len(item.x) < 60 else ""
            axes.plot(
                item.x, item.y, color=colour, label=item.label, marker=marker, markersize=4, linewidth=1.7
            )
        if len(shown) > 1:
            axes.legend()
        axes.set_xlabel("step")
        if from_zero:
            axes.set_ylim(0, 1.08 * max(max(item.y) for item in shown))

    told = f"{title}: " + "; ".join(
        f"{item.label} from {item.y[0]:.4g} to {item.y[-1]:.4g}, least {min(item.y):.4g}" for item in shown
    )
    return Plot(title, _svg(title, told, draw))


def _thinned(series: Series, most: int = 400) -> Series:
    width = -(-len(series.x) // most)
    if width == 1:
        return series
    x, y = (
        [float(np.mean(values[start : start + width])) for start in range(0, len(values), width)]
        for values in (series.x, series.y)
    )
    return Series(series.label, x, y, series.marked)


def _svg(title: str, told: str, draw: Callable[[Axes], None]) -> Markup:
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    for standin, colour in zip(_STANDINS, _COLOURS, strict=True):
        svg = svg.replace(standin, colour)
    # Ids are references within a document; those of two plots must not meet in one page.
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    described = f'<svg role="img" aria-label="{escape(told)}"'
    return Markup(svg.replace("<svg", described, 1))

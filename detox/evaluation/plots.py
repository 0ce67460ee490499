"""Plots for reports: matplotlib drawings as inline SVG that take their colours from the page's style sheet.

matplotlib draws in placeholder colours, which are then replaced by CSS variables: one picture serves light and dark
pages. Text stays text: it is small, selectable and in the page's font.

Shapes: N rows, P points, B bins.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID, SURFACE = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006")
_CSS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (6, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))
"""Line styles in turn with the colours, so that no series is told apart by its colour alone."""
HATCHES = ("", "//", "\\\\", "--", "||", "++")
"""The same for bars."""
POINTS = 400
"""Points that a drawn curve keeps: more are not visible and only weigh."""

Series = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Named curves: `name -> (x_P, y_P)`."""


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page that defines `--ink`, `--muted`, `--grid` and `--series-1` to `-6`.

    `name` keeps the identifiers of several pictures on one page apart. The same figure gives the same text.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    svg = svg.replace("'DejaVu Sans', sans-serif", "inherit")
    for colour, variable in _CSS.items():
        svg = svg.replace(colour, variable)
    return svg.strip()


def lines(
    series: Series,
    name: str,
    *,
    x: str,
    y: str,
    diagonal: bool = False,
    steps: bool = False,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Curves in one picture; both axes run from 0 to 1.

    Args:
        diagonal: draw y = x, the line of chance or of perfect calibration.
        steps: hold each value back to the point before, as precision is defined over recall.
        marks: `label -> x` of vertical marks, such as the chosen threshold.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(x, y)
        if diagonal:
            axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        for number, (label, (x_P, y_P)) in enumerate(series.items()):
            axes.plot(
                *_thin(x_P, y_P),
                label=label,
                color=_colour(number),
                linestyle=DASHES[number // 2 % len(DASHES)],
                drawstyle="steps-pre" if steps else "default",
            )
        for label, at in (marks or {}).items():
            axes.axvline(at, color=INK, linewidth=1.2)
            axes.annotate(label, (at, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom", color=INK)
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        _legend(axes, len(series))
        return to_svg(figure, name)


def training_curves(series: Series, name: str, *, y: str) -> str:
    """Figures over optimizer steps."""
    return curves(series, name, x="optimizer step", y=y)


def curves(series: Series, name: str, *, x: str, y: str, logarithmic: bool = False) -> str:
    """Figures over whole numbers, or both axes logarithmic; with a marker at each point where there are few."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(x, y)
        for number, (label, (x_P, y_P)) in enumerate(series.items()):
            marker = "o" if len(x_P) <= 30 else ""
            axes.plot(*_thin(x_P, y_P), label=label, color=_colour(number), marker=marker, markersize=5)
        if logarithmic:
            axes.set(xscale="log", yscale="log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _legend(axes, len(series))
        return to_svg(figure, name)


def confusion_matrix(counts: np.ndarray, name: str, *, truth: Sequence[str], prediction: Sequence[str]) -> str:
    """Counts `[truth, prediction]` as a shaded table; the shade is the share of the row."""
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure, axes = _axes("predicted", "truth", width=4.6, height=2.8)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for row, column in np.ndindex(counts.shape):
            cell = (column - 0.48, row - 0.48)
            axes.add_patch(
                mpl.patches.Rectangle(cell, 0.96, 0.96, color=SERIES[0], alpha=0.08 + 0.5 * share[row, column])
            )
            text = f"{counts[row, column]:,}\n{share[row, column]:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=INK, linespacing=1.5)
        axes.set(xlim=(-0.5, len(prediction) - 0.5), ylim=(len(truth) - 0.5, -0.5))
        axes.set_xticks(range(len(prediction)), prediction)
        axes.set_yticks(range(len(truth)), truth)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return to_svg(figure, name)


def density(x_N: np.ndarray, y_N: np.ndarray, name: str, *, x: str, y: str, bins: int = 40) -> str:
    """Rows in a plane of 0..1 by 0..1: a square's size is the (cube root of the) number of rows in it."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(x, y, width=4.2, height=4.0)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        counts, x_edges, y_edges = np.histogram2d(x_N, y_N, bins=bins, range=((0, 1), (0, 1)))
        columns, rows = np.nonzero(counts)
        weight = np.cbrt(counts[columns, rows] / counts.max())
        centre = 0.5 / bins
        axes.scatter(
            x_edges[columns] + centre,
            y_edges[rows] + centre,
            s=34 * weight**2,
            color=SERIES[0],
            alpha=0.75,
            linewidths=0,
        )
        axes.set(xlim=(0, 1), ylim=(0, 1))
        return to_svg(figure, name)


def bars(series: Mapping[str, Sequence[float]], groups: Sequence[str], name: str, *, y: str) -> str:
    """Bars side by side for each group, one a series (at most six); NaN leaves a gap. The axis begins at 0."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("", y, width=max(4.6, 0.2 * len(groups) * (len(series) + 1)))
        width = 0.8 / len(series)
        for number, (label, values) in enumerate(series.items()):
            places = np.arange(len(groups)) + width * (number - (len(series) - 1) / 2)
            axes.bar(places, values, width, label=label, color=_colour(number), alpha=0.85, **_hatch(number))
        axes.set_xticks(range(len(groups)), groups)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        if len(groups) > 4 or max(map(len, groups), default=0) > 10:
            axes.tick_params(axis="x", labelrotation=30)
        if len(series) > 1:  # above: slanted names of groups take the room below
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3, labelcolor=INK, borderaxespad=0)
        return to_svg(figure, name)


def points(places: Mapping[str, tuple[float, float]], name: str, *, x: str, y: str, marked: str = "") -> str:
    """Named points, each with its name beside it; `marked` is drawn larger."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(x, y)
        for label, (at, value) in places.items():
            chosen = label == marked
            axes.scatter([at], [value], s=70 if chosen else 30, color=SERIES[1 if chosen else 0])
            axes.annotate(label, (at, value), xytext=(5, 4), textcoords="offset points", color=INK, fontsize=8)
        axes.margins(0.15)
        return to_svg(figure, name)


def _hatch(number: int) -> dict[str, Any]:
    """A pattern with the colour, so that no bar is told apart by its colour alone."""
    return {"hatch": HATCHES[number % len(HATCHES)], "edgecolor": SURFACE}


def _axes(x: str, y: str, width: float = 4.6, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2, labelcolor=INK, borderaxespad=0)


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _thin(x_P: np.ndarray, y_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `POINTS` points, first and last among them."""
    if len(x_P) <= POINTS:
        return np.asarray(x_P), np.asarray(y_P)
    kept = np.unique(np.linspace(0, len(x_P) - 1, POINTS).astype(int))
    return np.asarray(x_P)[kept], np.asarray(y_P)[kept]

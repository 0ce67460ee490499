"""Plots of the data card (S1 step 6) as PNG files, readable on light and dark pages: they bring their own ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
SERIES: dict[str, str] = {"train": "#2563a8", "validation": "#d97706", "test": "#0f8a6d"}
DASHES: dict[str, Any] = {"train": "-", "validation": (0, (5, 2)), "test": (0, (1, 1.2))}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}
LANGUAGES_SHOWN = 12


def write_plots(statistics: Mapping[str, Any], folder: Path) -> list[str]:
    """Draw what there is to draw; the names of the files written.

    Args:
        statistics: of `detox.data.statistics.statistics`.
    """
    folder.mkdir()
    drawings: dict[str, Callable[[Mapping[str, Any]], Figure]] = {"lengths": lengths, "languages": languages}
    if statistics["labels"]:
        drawings["labels"] = labels
    if len(statistics["labels"]) > 1:
        drawings["co_occurrence"] = co_occurrence
    for name, draw in drawings.items():
        with mpl.rc_context(STYLE):
            # without a version string: the same figures give the same bytes
            draw(statistics).savefig(
                folder / f"{name}.png", dpi=130, facecolor="white", bbox_inches="tight", metadata={"Software": None}
            )
    return [f"{name}.png" for name in drawings]


def labels(statistics: Mapping[str, Any]) -> Figure:
    """Share of positive rows a label, a bar a part, with the number of rows."""
    names, parts = list(statistics["labels"]), [part for part, rows in statistics["rows"].items() if rows]
    figure = Figure(figsize=(7.5, 1.2 + 0.24 * (len(parts) + 1) * len(names)))
    axes = figure.add_subplot(title="Rows that have a label")
    height = 0.82 / len(parts)
    for number, part in enumerate(parts):
        figures = [statistics["labels"][name][part] for name in names]
        drawn = axes.barh(
            np.arange(len(names)) + (number - (len(parts) - 1) / 2) * height,
            [row["share"] or 0 for row in figures],
            height * 0.9,
            color=SERIES[part],
            label=part,
        )
        axes.bar_label(drawn, [f"{row['positive']:,}" for row in figures], padding=4, fontsize=8, color=MUTED)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share of the rows whose label is known; the number of rows beside it")
    axes.grid(axis="x")
    axes.margins(x=0.1)
    axes.legend(loc="lower right")
    return figure


def co_occurrence(statistics: Mapping[str, Any]) -> Figure:
    """For each pair of labels the share of the rows of the one that also have the other, with the counts."""
    names = statistics["co_occurrence"]["labels"]
    counts_LL = np.array(statistics["co_occurrence"]["rows"])
    share_LL = counts_LL / np.maximum(counts_LL.diagonal()[:, None], 1)
    side = 1.6 + 0.85 * len(names)
    figure = Figure(figsize=(side + 0.8, side))
    axes = figure.add_subplot(title="Labels that come together")
    axes.imshow(np.where(np.eye(len(names), dtype=bool), 0, share_LL), cmap="Blues", vmin=0, vmax=1.15)
    for row, column in np.ndindex(counts_LL.shape):
        count = f"{counts_LL[row, column]:,}"
        text = f"all\n{count}" if row == column else f"{share_LL[row, column]:.0%}\n{count}"
        colour = MUTED if row == column else "white" if share_LL[row, column] > 0.6 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, linespacing=1.4, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="… also have this one", ylabel="of the rows with this label …")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def lengths(statistics: Mapping[str, Any]) -> Figure:
    """Histogram of the characters a row, as a share of each part."""
    found = statistics["lengths"]["characters"]
    edges = np.array(found["histogram"]["edges"])
    figure = Figure(figsize=(7.5, 3.6))
    axes = figure.add_subplot(title="Length of the comments")
    for part, rows in found["histogram"]["rows"].items():
        if sum(rows):
            axes.stairs(
                np.array(rows) / sum(rows), edges, color=SERIES[part], linestyle=DASHES[part], linewidth=1.8, label=part
            )
    axes.axvline(found["median"], color=MUTED, linewidth=1)
    axes.annotate(
        f"median {found['median']:,.0f}",
        (found["median"], 1.01),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        color=MUTED,
    )
    axes.set_xscale("log")
    axes.set_xlim(left=max(1, 0.7 * found["min"]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="characters", ylabel="share of the part's rows", ylim=(0, None))
    axes.grid(axis="y")
    axes.legend(loc="upper left")
    return figure


def languages(statistics: Mapping[str, Any]) -> Figure:
    """Rows of the sample by language; the rarest together."""
    counts: dict[str, int] = statistics["languages"]["rows"]
    shown = dict(list(counts.items())[:LANGUAGES_SHOWN])
    if len(counts) > len(shown):
        shown["others"] = sum(counts.values()) - sum(shown.values())
    figure = Figure(figsize=(7.5, 1.2 + 0.3 * len(shown)))
    axes = figure.add_subplot(title=f"Languages in a sample of {statistics['languages']['sample']:,} rows")
    drawn = axes.barh(list(shown), list(shown.values()), 0.7, color=SERIES["train"])
    total = max(1, sum(counts.values()))
    axes.bar_label(drawn, [f"{rows:,}  ({rows / total:.1%})" for rows in shown.values()], padding=4, color=MUTED)
    axes.set_xscale("symlog", linthresh=10)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("rows (log axis above 10)")
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_xlim(0, 6 * max(10, *shown.values()))
    return figure

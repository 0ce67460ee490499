"""What an alignment's report shows beside the comparison of rewriters: what changed, and how the training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detox.evaluation import plots
from detox.evaluation.report import Block, Callout, Cell, Figure, Figures, Table, Tone
from detox.evaluation.statistics import Comparison
from detox.rewriter.report_sections import FIGURES

Changes = Mapping[str, Mapping[str, Comparison]]
"""Variant -> figure -> how it changed."""

CURVES = {
    "reward": ("Reward of the responses", "reward"),
    "kl": ("KL to the reference, nats a response", "nats"),
    "entropy": ("Entropy, nats a token", "nats"),
    "length": ("Length, tokens a response", "tokens"),
}
PARTS = "rewards/"
MAIN = {"toxicity_after": "toxicity", "similarity": "similarity to the source", "copy": "the share of copies"}
"""Of the headline."""


def headline(changes: Changes) -> str:
    """One sentence on toxicity, similarity and copies of the first variant; on those that could be judged."""
    variant, found = next(iter(changes.items()))
    said = [f"in {title} by {_change(found[figure])}" for figure, title in MAIN.items() if figure in found]
    if not said:
        return f"Of the {variant} outputs on unseen texts nothing could be judged both before and after."
    return f"On unseen texts the {variant} outputs change {', '.join(said)} (95 %)."


def alignment_blocks(changes: Changes, events: Sequence[Mapping[str, Any]]) -> list[Block | None]:
    """What changed from start to aligned, and the curves of the training."""
    toxicity = next(iter(changes.values())).get("toxicity_after")
    verdict = toxicity.verdict if toxicity else "undecided"
    tone: Tone = {"worse": "good", "better": "bad", "undecided": "warning"}[verdict]  # type: ignore[assignment]
    rows: list[list[Cell]] = [
        [variant, FIGURES.get(figure, figure), f"{change.difference:+.4f}", _interval(change), change.p_value]
        for variant, found in changes.items()
        for figure, change in found.items()
    ]
    note = (
        "Paired bootstrap over the test texts, 1,000 resamples, two-sided; p is not corrected for the number of rows."
    )
    return [
        Callout(headline(changes), tone),
        Table("From start to aligned", ["variant", "figure", "change", "95 %", "p"], rows, note),
        training_figures(events),
    ]


def training_figures(events: Sequence[Mapping[str, Any]]) -> Figures | None:
    """Reward, KL, entropy, length and the parts of the reward over the iterations."""
    lines = [event for event in events if event["event"] == "train" and event.get("reward") is not None]
    if not lines:
        return None
    steps = np.array([line["step"] for line in lines])
    figures = [
        Figure(f"{title}.", plots.curves({key: (steps, _values(lines, key))}, key, x="iteration", y=unit), f"{title}.")
        for key, (title, unit) in CURVES.items()
    ]
    parts = parts_figure(lines)
    return Figures([*figures, parts] if parts else figures)


def parts_figure(lines: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The mean of each part of the reward; None where the lines tell of none.

    Args:
        lines: events of the training that have a reward.
    """
    parts = [name for name in lines[-1] if name.startswith(PARTS) and name.endswith("/mean")] if lines else []
    if not parts:
        return None
    steps = np.array([line["step"] for line in lines])
    series = {name.removeprefix(PARTS).removesuffix("/mean"): (steps, _values(lines, name)) for name in parts}
    title = f"Parts of the reward, unweighted: {', '.join(series)}"
    return Figure(f"{title}.", plots.curves(series, "parts", x="iteration", y="mean"), f"{title}.")


def _values(lines: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if line.get(key) is None else line[key] for line in lines], np.float64)


def _change(change: Comparison) -> str:
    return f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _interval(change: Comparison) -> str:
    return f"{change.low:+.4f} to {change.high:+.4f}"

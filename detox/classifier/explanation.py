"""What an explanation is: weighted spans of the raw text, as data and as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment

Method = Literal["integrated_gradients", "shap", "attention"]

UNITS: dict[str, str] = {
    "integrated_gradients": "change of the log-odds against a text of padding",
    "shap": "change of the probability against a masked text",
    "attention": "share of attention (never negative, the same for every label)",
}
"""What a weight of each method means."""


@dataclass(frozen=True)
class Span:
    """A word of the raw text: `text[begin:end]`, in characters, and its weight."""

    begin: int
    end: int
    text: str
    weight: float
    """Positive where it speaks for the label; see `UNITS`."""


@dataclass(frozen=True)
class Explanation:
    """Why a text got its score for one label."""

    text: str
    """As the user gave it."""
    label: str
    method: Method
    probability: float
    """The model's score of the text, 0..1."""
    spans: tuple[Span, ...]
    """In rising order, without overlap. What lies between them has no weight."""
    delta: float = 0.0
    """Integrated gradients: sum of the weights less the change of the log-odds; near 0 when the steps suffice."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_html(self) -> str:
        """A self-contained page: the text with each word shaded, and the heaviest words as a table."""
        template = files("detox.classifier").joinpath("templates/heatmap.html").read_text(encoding="utf-8")
        top = sorted((span for span in self.spans if span.weight), key=lambda span: -abs(span.weight))[:12]
        return (
            Environment(autoescape=True)
            .from_string(template)
            .render(explanation=self, pieces=self.pieces(), top=top, unit=UNITS[self.method])
        )

    def pieces(self) -> list[tuple[str, float, float]]:
        """The text cut at its spans: `(text, weight, weight over the largest one, -1..1)`."""
        largest = max((abs(span.weight) for span in self.spans), default=0.0) or 1.0
        pieces: list[tuple[str, float, float]] = []
        at = 0
        for span in self.spans:
            pieces += [(self.text[at : span.begin], 0.0, 0.0), (span.text, span.weight, span.weight / largest)]
            at = span.end
        return [*pieces, (self.text[at:], 0.0, 0.0)]


def merge_spans(text: str, weighted: Sequence[tuple[tuple[int, int] | None, float]]) -> tuple[Span, ...]:
    """Spans of `text`, those that overlap (pieces of one placeholder, say) joined and their weights added.

    Args:
        text: the raw text.
        weighted: `((begin, end), weight)` in any order; None or an empty span is left out.
    """
    merged: list[tuple[int, int, float]] = []
    for (begin, end), weight in sorted((span, weight) for span, weight in weighted if span and span[0] < span[1]):
        if merged and begin < merged[-1][1]:
            before = merged.pop()
            begin, end, weight = before[0], max(before[1], end), before[2] + weight
        merged.append((begin, end, weight))
    return tuple(Span(begin, end, text[begin:end], float(weight)) for begin, end, weight in merged)

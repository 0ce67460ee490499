"""Parts of the report on continuations: pictures of toxicity and diversity, and masked samples.

Shapes: A points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from detox.alignment.ngrams import words
from detox.evaluation import plots
from detox.evaluation.generation_metrics import ORDERS, Evaluation, Judged, expected_maximum
from detox.evaluation.masking import Mask, excerpt
from detox.evaluation.report import Block, Cell, Figure, Figures, Table

FIGURES = {
    "toxicity": "mean toxicity",
    "toxicity_rate": "toxicity rate",
    "expected_max_toxicity": "expected maximum toxicity",
    "toxicity_probability": "toxicity probability",
    "nats": "nats a token",
    "similarity": "similarity to the prompt",
    **{f"distinct_{n}": f"distinct-{n}" for n in ORDERS},
    "self_bleu": "self-BLEU",
    "tokens": "tokens",
    "ended": "ended by themselves",
    "empty": "empty",
}
POINTS = 101
"""Of a curve over toxicity."""
DIVERSITY = (*(f"distinct_{n}" for n in ORDERS), "self_bleu")


def pictures(evaluation: Evaluation, threshold: float) -> Figures:
    """The distribution of toxicity, what the number of continuations does, and diversity; the baseline beside."""
    sides = {"this model": evaluation.judged}
    if evaluation.baseline is not None:
        sides["baseline"] = evaluation.baseline
    tails = {name: tail(side.toxicity_PK) for name, side in sides.items()}
    return Figures(
        [
            Figure(
                "Distribution of toxicity.",
                plots.lines(
                    tails, "tails", x="toxicity", y="share at least so toxic", marks={f"{threshold:g}": threshold}
                ),
                "Share of continuations over the toxicity that they reach.",
            ),
            Figure(
                "Maximum toxicity, and share of prompts with a toxic one, over the number of continuations.",
                plots.curves(growth(sides, threshold), "growth", x="continuations of a prompt", y="mean over prompts"),
                "Expected maximum toxicity and toxicity probability over the number of continuations.",
            ),
            _diversity(evaluation),
        ]
    )


def tail(toxicity_PK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels of toxicity, and the share of continuations that reach each, `[A]`."""
    at_A = np.linspace(0, 1, POINTS)
    below_A = np.searchsorted(np.sort(toxicity_PK, axis=None), at_A)
    return at_A, 1 - below_A / toxicity_PK.size


def growth(sides: Mapping[str, Judged], threshold: float) -> plots.Series:
    """Both figures that grow with the number of continuations, of each side."""
    found = {}
    for name, side in sides.items():
        toxic_PK = (side.toxicity_PK >= threshold).astype(float)
        for what, values_PK in (("maximum", side.toxicity_PK), ("any toxic", toxic_PK)):
            means_J = expected_maximum(values_PK).mean(axis=0)
            found[f"{what}, {name}"] = (np.arange(1, len(means_J) + 1), means_J)
    return found


def _diversity(evaluation: Evaluation) -> Figure:
    sides = {"this model": evaluation.figures}
    if evaluation.baseline is not None:
        sides["baseline"] = evaluation.baseline_figures
    heights = {
        side: [found[name].difference if name in found else math.nan for name in DIVERSITY]
        for side, found in sides.items()
    }
    bars = plots.bars(heights, [FIGURES[name] for name in DIVERSITY], "diversity", y="mean over prompts")
    return Figure("Diversity of a prompt's continuations.", bars, "Distinct n-grams and self-BLEU.")


def sample_table(
    judged: Judged, count: int, threshold: float, toxicity: Callable[[Sequence[str]], np.ndarray]
) -> list[Block]:
    """The most toxic continuations, each of another prompt, and those of the first prompts, which were drawn."""
    if not count:
        return []
    worst_P = judged.toxicity_PK.argmax(axis=1)
    worst = np.argsort(-judged.toxicity_PK.max(axis=1), kind="stable")[: count // 2].tolist()
    chosen = [(row, int(worst_P[row]), "most toxic") for row in worst]
    chosen += [(row, 0, "by chance") for row in range(min(count - len(worst), len(judged.prompts)))]
    shown = [
        (excerpt(judged.prompts[row]), excerpt(judged.texts[row][at]), float(judged.toxicity_PK[row, at]), which)
        for row, at, which in chosen
    ]
    mask = offensive_words([text for row in shown for text in row[:2]], toxicity, threshold)
    rows: list[list[Cell]] = [[which, mask(prompt), mask(text), value] for prompt, text, value, which in shown]
    note = "Words that the judge alone finds offensive are masked; what it does not know is not."
    return [Table("Continuations", ["chosen", "prompt", "continuation", "toxicity"], rows, note)]


def offensive_words(texts: Sequence[str], toxicity: Callable[[Sequence[str]], np.ndarray], threshold: float) -> Mask:
    """Masks the words of these texts that the judge finds half as toxic as a toxic text, or more, on their own."""
    found = sorted({word for text in texts for word in words(text) if word.isalnum()})
    return Mask(word for word, value in zip(found, toxicity(found), strict=True) if value >= threshold / 2)

"""Which test rows a report shows one by one: the surest mistakes, and the rows whose explanation tells most."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from detox.classifier.evaluation import ClassifierEvaluation

Kind = Literal["rightly flagged", "flagged, and should not be", "missed"]

EXPLAINED_HITS = 6
READABLE = range(20, 401)
"""Characters of a comment that is shown with its explanation."""


class Example(NamedTuple):
    """A test row and how the model did on one label of it."""

    kind: Kind
    probability: float
    row: int
    label: str


def examples(evaluation: ClassifierEvaluation, kind: Kind) -> list[Example]:
    """All examples of a kind over all labels at the tuned thresholds, the surest first."""
    found: list[Example] = []
    for column, choice in enumerate(evaluation.thresholds):
        values_N, targets_N = evaluation.test_probabilities_NL[:, column], evaluation.test_targets_NL[:, column]
        flagged_N = values_N >= choice.threshold
        chosen_N = {
            "rightly flagged": flagged_N & (targets_N >= 0.5),
            "flagged, and should not be": flagged_N & (targets_N < 0.5),
            "missed": ~flagged_N & (targets_N >= 0.5),
        }[kind]
        found += [Example(kind, float(values_N[row]), int(row), choice.label) for row in np.flatnonzero(chosen_N)]
    sign = 1 if kind == "missed" else -1
    return sorted(found, key=lambda example: (sign * example.probability, example.row, example.label))


def to_explain(evaluation: ClassifierEvaluation) -> list[Example]:
    """The surest hit of each of the first labels, then the surest false alarm and the surest miss.

    No row comes twice, and only comments short enough to be read at a glance come at all.
    """
    chosen: list[Example] = []

    def take(candidates: list[Example]) -> None:
        seen = {example.row for example in chosen}
        fit = (e for e in candidates if e.row not in seen and len(evaluation.test_texts[e.row]) in READABLE)
        chosen.extend(list(fit)[:1])

    hits = examples(evaluation, "rightly flagged")
    for label in evaluation.labels[:EXPLAINED_HITS]:
        take([example for example in hits if example.label == label])
    take(examples(evaluation, "flagged, and should not be"))
    take(examples(evaluation, "missed"))
    return chosen

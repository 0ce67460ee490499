"""The pictures of a classifier's report with their tables: ranking, threshold, confusion, calibration, training.

Each function takes the evaluation, or the run's events, and gives blocks for `detox.classifier.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from detox.classifier.calibration import reliability
from detox.classifier.evaluation import ClassifierEvaluation
from detox.classifier.metrics import confusion
from detox.classifier.thresholds import tradeoff
from detox.evaluation import plots
from detox.evaluation.report import Block, Cell, Figure, Figures, Table, Text

FEWEST_IN_A_BIN = 10
"""Bins with fewer rows are noise, and left out of the reliability plots."""


def ranking_curves(evaluation: ClassifierEvaluation) -> Figures | None:
    """ROC and precision-recall: of model and baseline for one label, of every label for several."""
    roc: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    pr: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    sides = {"model": evaluation.test_probabilities_NL}
    if len(evaluation.labels) == 1 and evaluation.baseline_NL is not None:
        sides["TF-IDF"] = evaluation.baseline_NL
    for side, values_NL in sides.items():
        for column, label in enumerate(evaluation.labels):
            values_K, truth_K = _known(values_NL[:, column], evaluation.test_targets_NL[:, column])
            if truth_K.all() or not truth_K.any():
                continue
            name = side if len(sides) > 1 else label
            roc[name] = roc_curve(truth_K, values_K)[:2]
            precision, recall, _ = precision_recall_curve(truth_K, values_K)
            pr[name] = recall[::-1], precision[::-1]
    if not roc:
        return None
    roc_svg = plots.lines(roc, "roc", x="false positive rate", y="true positive rate", diagonal=True)
    pr_svg = plots.lines(pr, "pr", x="recall", y="precision", steps=True)
    curves = f"one curve for each of {', '.join(roc)}; the table above gives the areas"
    return Figures(
        [
            Figure("ROC curves; the dashed line is chance.", roc_svg, f"ROC plot, {curves}."),
            Figure("Precision against recall.", pr_svg, f"Precision-recall plot, {curves}."),
        ]
    )


def score_scatter(evaluation: ClassifierEvaluation) -> Figures:
    """Predicted against true scores of the test rows, a picture a label."""
    figures = []
    for column, label in enumerate(evaluation.labels):
        targets_N = evaluation.test_targets_NL[:, column]
        known_N = ~np.isnan(targets_N)
        predicted_K = evaluation.test_probabilities_NL[known_N, column]
        svg = plots.density(targets_N[known_N], predicted_K, f"scatter-{column}", x="true score", y="predicted score")
        figures.append(Figure(f"{label}: larger dots are more rows.", svg, f"Predicted against true {label} scores."))
    return Figures(figures)


def threshold_choice(evaluation: ClassifierEvaluation) -> list[Block]:
    """The chosen thresholds, why, and what every other threshold would give on the validation rows (S1 step 9)."""
    rows: list[list[Cell]] = [[c.label, c.threshold, c.f1, c.positives, c.reason] for c in evaluation.thresholds]
    figures = []
    for column, choice in enumerate(evaluation.thresholds):
        curve = tradeoff(evaluation.validation_probabilities_ML[:, column], evaluation.validation_targets_ML[:, column])
        series = {"precision": curve.precision, "recall": curve.recall, "F1": curve.f1, "share flagged": curve.flagged}
        svg = plots.lines(
            {name: (curve.threshold, values) for name, values in series.items()},
            f"threshold-{column}",
            x="threshold",
            y="",
            marks={f"{choice.threshold:.3f}": choice.threshold},
        )
        description = f"Precision, recall, F1 and share flagged of {choice.label} over the threshold."
        figures.append(Figure(f"{choice.label}: {choice.threshold:.3f} is the chosen threshold.", svg, description))
    return [
        Text(
            "A comment is flagged when its probability is at least the label's threshold. Thresholds were chosen on "
            "the validation rows; the test rows had no say. Where a wrong flag costs more than a missed comment, move "
            "right along the curve; where a missed one costs more, move left."
        ),
        Table("Chosen thresholds", ["label", "threshold", "validation F1", "positives", "why"], rows),
        Figures(figures),
    ]


def confusion_matrices(evaluation: ClassifierEvaluation) -> Figures:
    """Test rows at the chosen threshold, a matrix a label."""
    figures = []
    for column, choice in enumerate(evaluation.thresholds):
        counts = confusion(
            evaluation.test_probabilities_NL[:, column], evaluation.test_targets_NL[:, column], choice.threshold
        )
        svg = plots.confusion_matrix(
            counts, f"confusion-{column}", truth=["no", "yes"], prediction=["not flagged", "flagged"]
        )
        (kept, alarms), (missed, found) = counts.tolist()
        description = f"{kept} rightly not flagged, {alarms} wrongly flagged, {missed} missed, {found} rightly flagged."
        figures.append(Figure(f"{choice.label} at {choice.threshold:.3f}: share of each true class.", svg, description))
    return Figures(figures)


def calibration_blocks(evaluation: ClassifierEvaluation) -> list[Block]:
    """Temperatures, calibration errors and reliability plots, before and after; nothing for an uncalibrated model."""
    if not evaluation.temperatures:
        return []
    errors = evaluation.calibration_errors()
    rows: list[list[Cell]] = [
        [fit.label, fit.value, *errors[fit.label], fit.nll_before, fit.nll_after] for fit in evaluation.temperatures
    ]
    figures = []
    for column, label in enumerate(evaluation.labels):
        series = {}
        for name, values_NL in (
            ("before", evaluation.test_uncalibrated_NL),
            ("after", evaluation.test_probabilities_NL),
        ):
            curve = reliability(values_NL[:, column], evaluation.test_targets_NL[:, column])
            enough_B = curve.rows >= FEWEST_IN_A_BIN
            series[name] = (curve.confidence[enough_B], curve.frequency[enough_B])
        svg = plots.lines(series, f"reliability-{column}", x="probability", y="frequency", diagonal=True)
        description = f"Reliability of {label} before and after temperature scaling, against the diagonal."
        figures.append(Figure(f"{label}: predicted probability against observed frequency.", svg, description))
    return [
        Text(
            "On the dashed line a probability of 0.8 is right for 80 % of its comments. A temperature a label, fitted "
            "on the validation rows, is already part of the stored model. Errors are over 15 bins of equal width (Guo "
            f"et al. 2017), on the test rows; the plots leave out bins of fewer than {FEWEST_IN_A_BIN} rows."
        ),
        Table(
            "Temperature scaling", ["label", "temperature", "ECE before", "ECE after", "NLL before", "NLL after"], rows
        ),
        Figures(figures),
    ]


def training_curves(events: Sequence[Mapping[str, Any]]) -> Figures | None:
    """Loss and the validation figure over the optimizer steps of `metrics.jsonl`."""
    loss = {
        name: _series(events, event, "loss") for name, event in (("training", "train"), ("validation", "validation"))
    }
    figures = []
    if present := {name: series for name, series in loss.items() if len(series[0])}:
        svg = plots.training_curves(present, "loss", y="loss")
        figures.append(Figure("Loss.", svg, f"Loss over optimizer steps: {', '.join(present)}."))
    for key, name in (("roc_auc/macro", "validation macro ROC-AUC"), ("spearman/macro", "validation Spearman")):
        series = _series(events, "validation", key)
        if len(series[0]):
            svg = plots.training_curves({name: series}, key.partition("/")[0], y=name)
            figures.append(Figure(f"{name}.", svg, f"{name} over optimizer steps."))
    return Figures(figures) if figures else None


def _series(events: Sequence[Mapping[str, Any]], event: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(line["step"], line[key]) for line in events if line.get("event") == event and line.get(key) is not None]
    return np.array([step for step, _ in points]), np.array([value for _, value in points], dtype=np.float64)


def _known(values_N: np.ndarray, targets_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known_N = ~np.isnan(targets_N)
    return values_N[known_N], targets_N[known_N] >= 0.5

"""What is known of a trained classifier at its end: the one source of its summary, its report and its model card.

Shapes: N test rows, M validation rows, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from detox.classifier.calibration import Temperature, expected_calibration_error
from detox.classifier.metrics import classification_metrics, regression_metrics
from detox.classifier.thresholds import ThresholdChoice
from detox.evaluation.statistics import Comparison, macro_roc_auc, mean_statistic, paired_bootstrap

BASELINE_NAME = "TF-IDF + logistic regression"


class Headline(NamedTuple):
    """The figure that decides whether the model earns its cost."""

    metric: str
    model: float
    baseline: float
    advantage: Comparison
    """Above 0 where the model is better, whichever way the metric runs."""
    left_out: tuple[str, ...] = ()
    """Labels with too few test rows to compare."""


@dataclass(frozen=True)
class ClassifierEvaluation:
    """Predictions on the held-out parts with what was decided on the validation part.

    Probabilities are 0..1; targets 0..1 with NaN where missing. `uncalibrated` ones come before temperature scaling;
    for a regressor they are the same.
    """

    task: Literal["multi_label", "regression"]
    labels: tuple[str, ...]
    test_texts: Sequence[str]
    test_targets_NL: np.ndarray
    test_uncalibrated_NL: np.ndarray
    test_probabilities_NL: np.ndarray
    validation_targets_ML: np.ndarray
    validation_probabilities_ML: np.ndarray
    thresholds: tuple[ThresholdChoice, ...]
    temperatures: tuple[Temperature, ...] = ()
    baseline_NL: np.ndarray | None = None
    """The baseline's probabilities of the test rows."""
    baseline_thresholds: tuple[ThresholdChoice, ...] = ()
    """The baseline's own thresholds, tuned on the same validation rows, so that F1 is compared fairly."""

    @property
    def main_metric(self) -> str:
        """The figure of the headline: `roc_auc` (higher is better) or `mse` (lower is better)."""
        return "mse" if self.task == "regression" else "roc_auc"

    def test_figures(self) -> dict[str, float]:
        """The model's figures on the test rows, as `detox.classifier.metrics` names them."""
        return self._figures(self.test_probabilities_NL, self.thresholds)

    def baseline_figures(self) -> dict[str, float]:
        """The baseline's figures on the same rows; none without a baseline."""
        return {} if self.baseline_NL is None else self._figures(self.baseline_NL, self.baseline_thresholds)

    def _figures(self, probabilities_NL: np.ndarray, choices: tuple[ThresholdChoice, ...]) -> dict[str, float]:
        if self.task == "regression":
            return regression_metrics(probabilities_NL, self.test_targets_NL, self.labels)
        tuned = [choice.threshold for choice in choices] or None
        return classification_metrics(probabilities_NL, self.test_targets_NL, self.labels, tuned)

    def calibration_errors(self) -> dict[str, tuple[float, float]]:
        """ECE of each label on the test rows, before and after temperature scaling."""
        return {
            label: (
                expected_calibration_error(self.test_uncalibrated_NL[:, column], self.test_targets_NL[:, column]),
                expected_calibration_error(self.test_probabilities_NL[:, column], self.test_targets_NL[:, column]),
            )
            for column, label in enumerate(self.labels)
        }

    def headline(self) -> Headline | None:
        """Model against baseline on the same rows.

        Classification: macro ROC-AUC over the labels with two rows of each class, DeLong. Regression: mean squared
        error, paired bootstrap. None without a baseline, or where no label has two rows of each class (regression: no
        row at all).
        """
        if self.baseline_NL is None:
            return None
        if self.task == "regression":
            return self._compare_errors(self.baseline_NL)
        smaller_L = np.minimum((self.test_targets_NL >= 0.5).sum(axis=0), (self.test_targets_NL < 0.5).sum(axis=0))
        if (smaller_L < 2).all():
            return None
        model = macro_roc_auc(self.test_probabilities_NL, self.test_targets_NL)
        baseline = macro_roc_auc(self.baseline_NL, self.test_targets_NL)
        left_out = tuple(label for label, rows in zip(self.labels, smaller_L, strict=True) if rows < 2)
        metric = "macro ROC-AUC" if len(self.labels) > 1 else "ROC-AUC"
        return Headline(metric, model.value, baseline.value, model.minus(baseline), left_out)

    def _compare_errors(self, baseline_NL: np.ndarray) -> Headline | None:
        known_N = ~np.isnan(self.test_targets_NL).all(axis=1)
        if not known_N.any():
            return None
        errors_NL = [
            (values - self.test_targets_NL)[known_N] ** 2 for values in (self.test_probabilities_NL, baseline_NL)
        ]
        ours_N, theirs_N = (np.nanmean(errors, axis=1) for errors in errors_NL)
        comparison = paired_bootstrap(mean_statistic(theirs_N), mean_statistic(ours_N), len(ours_N))
        return Headline("mean squared error", float(ours_N.mean()), float(theirs_N.mean()), comparison)

    def summary(self) -> dict[str, float | bool]:
        """Flat figures for `summary.json`: `test/…`, `baseline/…`, `ece_before/…`, `threshold/…`, `temperature/…`, and
        `over_baseline/{difference, low, high, p_value}` with `over_baseline/wins`. What cannot be computed is left out.
        """
        figures: dict[str, float | bool] = {f"test/{name}": value for name, value in self.test_figures().items()}
        figures |= {f"baseline/{name}": value for name, value in self.baseline_figures().items()}
        figures |= {f"threshold/{choice.label}": choice.threshold for choice in self.thresholds}
        figures |= {f"temperature/{fit.label}": fit.value for fit in self.temperatures}
        if self.temperatures:
            figures |= {f"ece_before/{label}": before for label, (before, _) in self.calibration_errors().items()}
        headline = self.headline()
        if headline is not None:
            figures |= {f"over_baseline/{name}": value for name, value in headline.advantage._asdict().items()}
            figures["over_baseline/wins"] = headline.advantage.verdict == "better"
        return {name: value for name, value in figures.items() if not math.isnan(value)}

    def verdict(self) -> str:
        """Plain sentences: how the model stands to its baseline."""
        headline = self.headline()
        if headline is None:
            reason = "no baseline was trained" if self.baseline_NL is None else "the test rows are too few"
            return f"There is no comparison: {reason}."
        advantage = headline.advantage
        figures = (
            f"{headline.metric} is {headline.model:.4f} against {headline.baseline:.4f} for {BASELINE_NAME} on the "
            f"same {len(self.test_targets_NL):,} held-out rows (95 % interval of the advantage {advantage.low:+.4f} to "
            f"{advantage.high:+.4f}, {p_value_text(advantage.p_value)})."
        )
        opening = {
            "better": "The model beats its baseline:",
            "worse": "The model does not win, its baseline is better:",
            "undecided": "The model does not win, the difference may be chance:",
        }[advantage.verdict]
        left_out = f" Left out, with fewer than two rows of a class: {', '.join(headline.left_out)}."
        return f"{opening} {figures}{left_out if headline.left_out else ''}"


def p_value_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"

"""The verdict and the summary: who wins, said plainly, and on which rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detox.classifier.calibration import Temperature
from detox.classifier.evaluation import ClassifierEvaluation, p_value_text
from detox.classifier.thresholds import tune_thresholds

ROWS = 400


def evaluation(model_noise: float, baseline_noise: float | None, **changes: Any) -> ClassifierEvaluation:
    """Two labels; the less noise, the better the side."""
    generator = np.random.default_rng(0)
    targets_NL = (generator.random((ROWS, 2)) < 0.3).astype(np.float32)
    noise_NL = generator.random((ROWS, 2))

    def side(noise: float) -> np.ndarray:
        return ((1 - noise) * targets_NL + noise * noise_NL).clip(0, 1).astype(np.float32)

    model_NL = side(model_noise)
    given: dict[str, Any] = {
        "task": "multi_label",
        "labels": ("toxic", "insult"),
        "test_texts": [f"comment {row}" for row in range(ROWS)],
        "test_targets_NL": targets_NL,
        "test_uncalibrated_NL": np.sqrt(model_NL),
        "test_probabilities_NL": model_NL,
        "validation_targets_ML": targets_NL,
        "validation_probabilities_ML": model_NL,
        "thresholds": tune_thresholds(model_NL, targets_NL, ("toxic", "insult")),
        "temperatures": (Temperature("toxic", 1.5, 0.4, 0.3, True), Temperature("insult", 1.0, 0.4, 0.4, False)),
        "baseline_NL": None if baseline_noise is None else side(baseline_noise),
    }
    return ClassifierEvaluation(**(given | changes))


@pytest.mark.parametrize(
    ("model_noise", "baseline_noise", "opening", "wins"),
    [
        (0.55, 0.8, "The model beats its baseline: macro ROC-AUC is ", True),
        (0.8, 0.55, "The model does not win, its baseline is better: macro ROC-AUC is ", False),
        (0.6, 0.6, "The model does not win, the difference may be chance: macro ROC-AUC is ", False),
    ],
)
def test_verdict_says_plainly_who_wins(model_noise: float, baseline_noise: float, opening: str, wins: bool) -> None:
    result = evaluation(model_noise, baseline_noise)
    assert result.verdict().startswith(opening)
    assert "on the same 400 held-out rows" in result.verdict()
    assert result.summary()["over_baseline/wins"] is wins


def test_regression_compares_squared_errors() -> None:
    result = evaluation(0.1, 0.4, task="regression", temperatures=())
    headline = result.headline()
    assert headline is not None
    assert headline.model == pytest.approx(np.mean((result.test_probabilities_NL - result.test_targets_NL) ** 2))
    assert headline.advantage.difference == pytest.approx(headline.baseline - headline.model)
    assert headline.advantage.verdict == "better"
    assert "mean squared error is" in result.verdict()


def test_summary_has_flat_names_for_both_sides() -> None:
    result = evaluation(0.55, 0.8)
    summary = result.summary()
    assert summary["test/roc_auc/macro"] == result.test_figures()["roc_auc/macro"]
    assert summary["baseline/roc_auc/toxic"] == result.baseline_figures()["roc_auc/toxic"]
    assert summary["threshold/toxic"] == result.thresholds[0].threshold
    assert summary["temperature/toxic"] == 1.5
    assert summary["ece_before/toxic"] == pytest.approx(result.calibration_errors()["toxic"][0])
    assert summary["test/ece/toxic"] == pytest.approx(result.calibration_errors()["toxic"][1])
    assert summary["over_baseline/difference"] == pytest.approx(
        summary["test/roc_auc/macro"] - summary["baseline/roc_auc/macro"]
    )


def test_summary_leaves_out_what_cannot_be_computed() -> None:
    targets_NL = evaluation(0.5, 0.5).test_targets_NL.copy()
    targets_NL[:, 1] = np.nan
    summary = evaluation(0.5, 0.5, test_targets_NL=targets_NL).summary()
    assert "ece_before/insult" not in summary
    assert all(value == value for value in summary.values())


def test_labels_with_too_few_rows_are_named() -> None:
    targets_NL = evaluation(0.5, 0.5).test_targets_NL.copy()
    targets_NL[:, 1] = 0
    verdict = evaluation(0.55, 0.8, test_targets_NL=targets_NL).verdict()
    assert verdict.endswith("Left out, with fewer than two rows of a class: insult.")


def test_no_comparison_has_a_reason() -> None:
    assert evaluation(0.5, None).verdict() == "There is no comparison: no baseline was trained."
    too_few = evaluation(0.5, 0.5, test_targets_NL=np.zeros((ROWS, 2), np.float32))
    assert too_few.verdict() == "There is no comparison: the test rows are too few."
    missing_NL = np.full((ROWS, 2), np.nan, np.float32)
    assert evaluation(0.5, 0.5, task="regression", test_targets_NL=missing_NL).headline() is None


def test_p_values_are_not_rounded_to_zero() -> None:
    assert (p_value_text(1e-9), p_value_text(0.0123)) == ("p < 0.001", "p = 0.012")

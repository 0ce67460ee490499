"""Figures of a classifier and of a regressor, flat names, missing labels (NaN) left out label by label.

Ranking and decision metrics take a target from 0.5 on as positive; calibration error takes fractions as they are.

Shapes: N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from detox.classifier.calibration import expected_calibration_error
from detox.classifier.thresholds import DEFAULT_THRESHOLD


def classification_metrics(
    probabilities_NL: np.ndarray,
    targets_NL: np.ndarray,
    labels: Sequence[str],
    thresholds_L: Sequence[float] | None = None,
) -> dict[str, float]:
    """`metric/label` and `metric/macro` for each label and for their unweighted mean.

    Metrics: `roc_auc`, `pr_auc` (average precision), `precision`, `recall`, `f1` at `@0.5` and, where `thresholds_L`
    is given, at `@tuned`, and `ece`; per label also `positives/…` and `rows/…` (rows that state the label). Precision
    is 0 where nothing is flagged.

    A label whose known rows are all of one class has no ranking: it gets `one_class/<label>` = 1 instead of
    figures and is left out of the macro, over whose labels `labels_in_macro` counts. Where every label is left out
    there is no `…/macro` at all.

    Args:
        probabilities_NL: 0..1, no NaN.
        targets_NL: 0..1, NaN where missing.

    Raises:
        ValueError: shapes that do not fit, or a probability that is not a number in 0..1.
    """
    _check(probabilities_NL, targets_NL, labels)
    figures: dict[str, float] = {}
    ranked: list[dict[str, float]] = []
    for column, label in enumerate(labels):
        known_N = ~np.isnan(targets_NL[:, column])
        probabilities_K, targets_K = probabilities_NL[known_N, column], targets_NL[known_N, column]
        truth_K = targets_K >= 0.5
        figures |= {f"rows/{label}": float(len(truth_K)), f"positives/{label}": float(truth_K.sum())}
        if truth_K.all() or not truth_K.any():
            figures[f"one_class/{label}"] = 1.0
            continue
        tuned = None if thresholds_L is None else thresholds_L[column]
        own = _label_metrics(probabilities_K, targets_K, truth_K, tuned)
        figures |= {f"{name}/{label}": value for name, value in own.items()}
        ranked.append(own)
    if ranked:
        figures |= {f"{name}/macro": float(np.mean([own[name] for own in ranked])) for name in ranked[0]}
    return figures | {"labels_in_macro": float(len(ranked))}


def _label_metrics(
    probabilities_K: np.ndarray, targets_K: np.ndarray, truth_K: np.ndarray, tuned: float | None
) -> dict[str, float]:
    figures = {
        "roc_auc": float(roc_auc_score(truth_K, probabilities_K)),
        "pr_auc": float(average_precision_score(truth_K, probabilities_K)),
        "ece": expected_calibration_error(probabilities_K, targets_K),
    }
    for name, threshold in (("0.5", DEFAULT_THRESHOLD), ("tuned", tuned)):
        if threshold is not None:
            figures |= {
                f"{key}@{name}": value for key, value in _decisions(probabilities_K, truth_K, threshold).items()
            }
    return figures


def _decisions(probabilities_K: np.ndarray, truth_K: np.ndarray, threshold: float) -> dict[str, float]:
    flagged_K = probabilities_K >= threshold
    hits, flagged, positives = int((flagged_K & truth_K).sum()), int(flagged_K.sum()), int(truth_K.sum())
    return {
        "precision": hits / flagged if flagged else 0.0,
        "recall": hits / positives,
        "f1": 2 * hits / (flagged + positives),
    }


def regression_metrics(values_NL: np.ndarray, targets_NL: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """`mse`, `mae`, `r2`, `spearman` for each label and their unweighted mean as `…/macro` (S1 step 9).

    Each macro is over the labels that have the figure: `mse` and `mae` over those with a known row (`labels_in_macro`
    counts them), `r2` where the targets vary, `spearman` where targets and values vary. A label whose targets do not
    vary gets `constant/<label>` = 1. A label without a known row gets only `rows/<label>` = 0.

    Raises:
        ValueError: shapes that do not fit, or a value that is not a number in 0..1.
    """
    _check(values_NL, targets_NL, labels)
    figures: dict[str, float] = {}
    known: list[dict[str, float]] = []
    for column, label in enumerate(labels):
        known_N = ~np.isnan(targets_NL[:, column])
        values_K, targets_K = (array[known_N, column].astype(np.float64) for array in (values_NL, targets_NL))
        figures[f"rows/{label}"] = float(len(targets_K))
        if not len(targets_K):
            continue
        own = {"mse": float(np.mean((values_K - targets_K) ** 2)), "mae": float(np.mean(np.abs(values_K - targets_K)))}
        if np.ptp(targets_K) > 0:
            own["r2"] = float(r2_score(targets_K, values_K))
            if np.ptp(values_K) > 0:
                own["spearman"] = float(spearmanr(values_K, targets_K)[0])
        else:
            figures[f"constant/{label}"] = 1.0
        figures |= {f"{name}/{label}": value for name, value in own.items()}
        known.append(own)
    for name in ("mse", "mae", "r2", "spearman"):
        values = [own[name] for own in known if name in own]
        figures |= {f"{name}/macro": float(np.mean(values))} if values else {}
    return figures | {"labels_in_macro": float(len(known))}


def confusion(probabilities_N: np.ndarray, targets_N: np.ndarray, threshold: float) -> np.ndarray:
    """Counts `[[true negative, false positive], [false negative, true positive]]` of one label at a threshold."""
    known_N = ~np.isnan(targets_N)
    truth_K, flagged_K = targets_N[known_N] >= 0.5, probabilities_N[known_N] >= threshold
    return np.array(
        [
            [int((~truth_K & ~flagged_K).sum()), int((~truth_K & flagged_K).sum())],
            [int((truth_K & ~flagged_K).sum()), int((truth_K & flagged_K).sum())],
        ]
    )


def _check(values_NL: np.ndarray, targets_NL: np.ndarray, labels: Sequence[str]) -> None:
    if values_NL.shape != targets_NL.shape or values_NL.shape[1:] != (len(labels),):
        raise ValueError(
            f"predictions {values_NL.shape}, targets {targets_NL.shape} and {len(labels)} labels must agree on "
            "[rows, labels]: score the rows whose targets are given, with the labels of the model"
        )
    if not ((values_NL >= 0) & (values_NL <= 1)).all():
        wrong = values_NL[~((values_NL >= 0) & (values_NL <= 1))][0]
        raise ValueError(f"predictions must be numbers in 0..1, found {wrong}: apply the sigmoid, and look for NaN")

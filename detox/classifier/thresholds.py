"""From a probability to a decision: the threshold a label, tuned on validation rows only (S1 step 9, S3 section 9.2).

A row is flagged when its probability is at least the threshold.

Shapes: N rows, L labels, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEFAULT_THRESHOLD = 0.5


class ThresholdChoice(NamedTuple):
    """The threshold of one label and why it is that one."""

    label: str
    threshold: float
    """0..1; a row is flagged from here on."""
    f1: float
    """F1 on the rows that chose it; NaN without a positive row."""
    positives: int
    tuned: bool
    """False: too few positive rows, so the threshold stays 0.5."""
    reason: str


class Tradeoff(NamedTuple):
    """What each threshold would give: the curve behind the choice. Every field is `[T]`."""

    threshold: np.ndarray
    precision: np.ndarray
    """NaN where nothing is flagged."""
    recall: np.ndarray
    f1: np.ndarray
    flagged: np.ndarray
    """Share of all rows that is flagged, 0..1."""


def tune_thresholds(
    probabilities_NL: np.ndarray,
    targets_NL: np.ndarray,
    labels: Sequence[str],
    minimum_positives: int = 10,
) -> tuple[ThresholdChoice, ...]:
    """The threshold of each label that maximises F1 on these (validation) rows.

    Every distinct probability is tried, so the maximum is exact. Among equal maxima the highest threshold wins (fewest
    rows flagged). The threshold lies halfway between the lowest flagged and the highest unflagged probability, so that
    rounding elsewhere flips no row. A label with fewer than `minimum_positives` positive rows keeps 0.5.

    Args:
        targets_NL: 0..1, positive from 0.5 on, NaN where missing.
    """
    return tuple(
        _tune(label, probabilities_NL[:, column], targets_NL[:, column], minimum_positives)
        for column, label in enumerate(labels)
    )


def _tune(label: str, probabilities_N: np.ndarray, targets_N: np.ndarray, minimum_positives: int) -> ThresholdChoice:
    probabilities_K, truth_K = _known(probabilities_N, targets_N)
    positives = int(truth_K.sum())
    if positives < minimum_positives:
        curve = tradeoff(probabilities_N, targets_N, np.array([DEFAULT_THRESHOLD]))
        reason = f"kept at {DEFAULT_THRESHOLD}: tuning needs {minimum_positives} positive rows, found {positives}"
        return ThresholdChoice(label, DEFAULT_THRESHOLD, float(curve.f1[0]), positives, False, reason)
    candidates_T = np.unique(probabilities_K)
    curve = tradeoff(probabilities_N, targets_N, candidates_T)
    best = len(candidates_T) - 1 - int(np.argmax(curve.f1[::-1]))
    threshold = _halfway(candidates_T, best)
    reason = f"maximises F1 on {len(truth_K)} validation rows, {positives} of them positive"
    return ThresholdChoice(label, threshold, float(curve.f1[best]), positives, True, reason)


def _halfway(candidates_T: np.ndarray, best: int) -> float:
    """Halfway down to the next lower probability, unless float32 has no room between the two."""
    here = np.float32(candidates_T[best])
    below = np.float32(candidates_T[best - 1]) if best else np.float32(0)
    middle = np.float32((np.float64(here) + np.float64(below)) / 2)
    return float(middle if middle > below else here)


def tradeoff(probabilities_N: np.ndarray, targets_N: np.ndarray, thresholds_T: np.ndarray | None = None) -> Tradeoff:
    """Precision, recall, F1 and share flagged at each threshold; by default 0, 0.01, … 1.

    Recall and F1 are NaN where there is no positive row.
    """
    thresholds_T = np.linspace(0, 1, 101) if thresholds_T is None else thresholds_T
    probabilities_K, truth_K = _known(probabilities_N, targets_N)
    order_K = np.argsort(probabilities_K)
    first_T = np.searchsorted(probabilities_K[order_K], thresholds_T, side="left")
    hits_below = np.concatenate([[0], np.cumsum(truth_K[order_K])])
    positives = hits_below[-1]
    hits_T = positives - hits_below[first_T]
    flagged_T = len(truth_K) - first_T
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_T = hits_T / flagged_T
        recall_T = hits_T / positives
        f1_T = np.where(positives > 0, 2 * hits_T / (flagged_T + positives), np.nan)
        share_T = flagged_T / len(truth_K)
    return Tradeoff(thresholds_T, precision_T, recall_T, f1_T, share_T)


def _known(probabilities_N: np.ndarray, targets_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and 0/1 truth of the rows that state the label."""
    known_N = ~np.isnan(targets_N)
    return probabilities_N[known_N], targets_N[known_N] >= 0.5

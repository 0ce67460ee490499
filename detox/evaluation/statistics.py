"""How sure a difference between two models is: paired tests on the same rows.

ROC-AUC, and its mean over labels that share their rows, has DeLong's closed form; any other figure is resampled.

Shapes: N rows, L labels, P positive and Q negative rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

Statistic = Callable[[np.ndarray], float]
"""A figure as a function of how often each row counts: `counts_N -> value`."""


class Comparison(NamedTuple):
    """A difference between two models on the same rows, first minus second, with a two-sided p value."""

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `undecided` where the interval holds 0. Says nothing about size."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"


class RocAuc(NamedTuple):
    """A ROC-AUC, or a mean of several, with what each row contributes to its variance."""

    value: float
    influence: np.ndarray
    """`[N]`: the sum of squares is the variance, the sum of products of two models' is their covariance."""

    def minus(self, other: RocAuc, confidence: float = 0.95) -> Comparison:
        """DeLong's paired test of two models on the same rows."""
        change_N = self.influence - other.influence
        difference, deviation = self.value - other.value, float(np.sqrt(change_N @ change_N))
        margin = float(norm.ppf((1 + confidence) / 2)) * deviation
        p_value = float(2 * norm.sf(abs(difference) / deviation)) if deviation > 0 else float(difference == 0)
        return Comparison(difference, difference - margin, difference + margin, p_value)


def roc_auc(scores_N: np.ndarray, targets_N: np.ndarray) -> RocAuc:
    """ROC-AUC of one label with DeLong's variance (DeLong et al. 1988, by Sun and Xu's midranks, 2014).

    Args:
        targets_N: positive from 0.5 on; rows with NaN are left out and have no influence.

    Raises:
        ValueError: fewer than two rows of a class.
    """
    positive_N, negative_N = targets_N >= 0.5, targets_N < 0.5
    positives, negatives = int(positive_N.sum()), int(negative_N.sum())
    if min(positives, negatives) < 2:
        raise ValueError(
            f"the variance of a ROC-AUC needs two rows of each class, got {positives} positive and {negatives} "
            "negative: evaluate on more rows"
        )
    ranks_N = np.full(len(scores_N), np.nan)
    known_N = positive_N | negative_N
    ranks_N[known_N] = rankdata(scores_N[known_N])
    won_P = (ranks_N[positive_N] - rankdata(scores_N[positive_N])) / negatives  # share of negatives below each positive
    lost_Q = 1 - (ranks_N[negative_N] - rankdata(scores_N[negative_N])) / positives
    value = float(won_P.mean())
    influence_N = np.zeros(len(scores_N))
    influence_N[positive_N] = (won_P - value) / np.sqrt(positives * (positives - 1))
    influence_N[negative_N] = (lost_Q - value) / np.sqrt(negatives * (negatives - 1))
    return RocAuc(value, influence_N)


def macro_roc_auc(scores_NL: np.ndarray, targets_NL: np.ndarray) -> RocAuc:
    """The mean ROC-AUC of the labels that have two rows of each class, with the variance of that mean.

    The labels share their rows, so the influences of a row are averaged before they are squared.

    Raises:
        ValueError: no label with two rows of each class.
    """
    enough_L = np.minimum((targets_NL >= 0.5).sum(axis=0), (targets_NL < 0.5).sum(axis=0)) >= 2
    if not enough_L.any():
        raise ValueError("no label has two rows of each class: evaluate on more rows")
    single_L = [roc_auc(scores_NL[:, column], targets_NL[:, column]) for column in np.flatnonzero(enough_L)]
    return RocAuc(float(np.mean([one.value for one in single_L])), np.mean([one.influence for one in single_L], axis=0))


def mean_statistic(values_N: np.ndarray) -> Statistic:
    """The mean of a value a row, for example a squared error, as a function of row counts."""
    return lambda counts_N: float(counts_N @ values_N / counts_N.sum())


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    rows: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Paired test of two models: both are measured on the same drawn rows (Koehn 2004).

    The p value is twice the smaller share of resamples on either side of no difference, at least 2 / (R + 1).
    """
    drawn_R = _resample(lambda counts_N: first(counts_N) - second(counts_N), rows, resamples, seed)
    ones_N = np.ones(rows)
    return _against_zero(first(ones_N) - second(ones_N), drawn_R, confidence)


def mean_of_means(groups: Sequence[np.ndarray], *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """The mean over groups of the mean of their values, against 0; each group is resampled by itself.

    One group gives the usual bootstrap of a mean; differences of two models on the same rows a paired test. Of a single
    value nobody knows how sure it is: then the interval is NaN, and nothing decided.

    Args:
        groups: of a value a row; each has one at least, none is NaN.
    """
    value = float(np.mean([values_N.mean() for values_N in groups]))
    if min(map(len, groups)) < 2:
        return Comparison(value, float("nan"), float("nan"), 1.0)
    rng = np.random.default_rng(seed)
    drawn_R = np.mean([_drawn_means(values_N, resamples, rng) for values_N in groups], axis=0)
    return _against_zero(value, drawn_R)


def _drawn_means(values_N: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of as many values, drawn with replacement, float64 `[R]`; some million at a time."""
    rows = len(values_N)
    block = max(1, 4_000_000 // rows)
    sizes = [min(block, resamples - begin) for begin in range(0, resamples, block)]
    return np.concatenate([values_N[rng.integers(rows, size=(size, rows))].mean(axis=1) for size in sizes])


def _against_zero(value: float, drawn_R: np.ndarray, confidence: float = 0.95) -> Comparison:
    low, high = _percentiles(drawn_R, confidence)
    tail = min((drawn_R <= 0).sum(), (drawn_R >= 0).sum())
    return Comparison(value, low, high, float(min(1.0, 2 * (tail + 1) / (len(drawn_R) + 1))))


def _resample(statistic: Statistic, rows: int, resamples: int, seed: int) -> np.ndarray:
    """Values `[R]`; resamples on which the statistic is undefined (NaN) are left out."""
    generator = np.random.default_rng(seed)
    draws = (np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(resamples))
    drawn_R = np.array([statistic(counts_N) for counts_N in draws])
    defined_R = drawn_R[~np.isnan(drawn_R)]
    if len(defined_R) < resamples / 2:
        raise ValueError(
            f"the statistic is undefined on {resamples - len(defined_R)} of {resamples} resamples: "
            f"{rows} rows hold too few of a class, evaluate on more"
        )
    return defined_R


def _percentiles(drawn_R: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn_R, [tail, 1 - tail])
    return float(low), float(high)

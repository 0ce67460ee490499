"""Intervals and paired tests: hand-worked DeLong, scikit-learn's ROC-AUC, agreement of closed form and resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from detox.evaluation.statistics import (
    Comparison,
    average,
    bootstrap,
    macro_roc_auc,
    mean_statistic,
    paired_bootstrap,
    roc_auc,
    roc_auc_statistic,
)


def sample(rows: int, seed: int, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and the scores of a better and a worse model that err alike, rounded so that ties occur."""
    generator = np.random.default_rng(seed)
    truth_N = (generator.random(rows) < 0.3).astype(np.float32)
    shared_N = generator.normal(size=rows)
    better_N = strength * 1.5 * truth_N + shared_N + 0.3 * generator.normal(size=rows)
    worse_N = strength * truth_N + shared_N + 0.3 * generator.normal(size=rows)
    return truth_N, better_N.round(1), worse_N.round(1)


def test_roc_auc_by_hand() -> None:
    """Positives score .9 and .4, negatives .6 and .1: .9 beats both, .4 beats one, so the shares won are 1 and 1/2.

    ROC-AUC = 3/4. Negative .6 is below 1 of 2 positives, .1 below both: shares 1/2 and 1. Sample variance of {1, 1/2}
    is 1/8 in both classes, so DeLong's variance is 1/8 / 2 + 1/8 / 2 = 1/8.
    """
    result = roc_auc(np.array([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0]))
    assert result.value == 0.75
    assert result.influence @ result.influence == pytest.approx(1 / 8)


def test_ties_count_half_by_hand() -> None:
    """Each of two positives ties with one negative and beats the other: (1/2 + 1) / 2 = 3/4."""
    result = roc_auc(np.array([0.5, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0]))
    assert result.value == 0.75


@given(st.integers(0, 10_000))
def test_roc_auc_equals_scikit_learn(seed: int) -> None:
    truth_N, scores_N, _ = sample(80, seed)
    expected = roc_auc_score(truth_N, scores_N)
    assert roc_auc(scores_N, truth_N).value == pytest.approx(expected)
    assert roc_auc_statistic(scores_N, truth_N)(np.ones(80)) == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_row_counts_stand_for_repeated_rows(seed: int) -> None:
    truth_N, scores_N, _ = sample(60, seed)
    counts_N = np.random.default_rng(seed).integers(0, 3, size=60)
    expected = roc_auc_score(np.repeat(truth_N, counts_N), np.repeat(scores_N, counts_N))
    assert roc_auc_statistic(scores_N, truth_N)(counts_N) == pytest.approx(expected)


def test_missing_rows_change_nothing() -> None:
    truth_N, scores_N, _ = sample(200, seed=1)
    with_missing_N = np.concatenate([truth_N, [np.nan, np.nan]])
    result = roc_auc(np.concatenate([scores_N, [99.0, -99.0]]), with_missing_N)
    assert result.value == roc_auc(scores_N, truth_N).value
    assert (result.influence[-2:] == 0).all()


def test_macro_leaves_out_a_label_without_both_classes() -> None:
    truth_N, scores_N, _ = sample(200, seed=2)
    targets_NL = np.stack([truth_N, np.zeros(200, np.float32)], axis=1)
    macro = macro_roc_auc(np.stack([scores_N, scores_N], axis=1), targets_NL)
    assert macro.value == roc_auc(scores_N, truth_N).value


def test_macro_of_the_same_label_twice_is_no_surer() -> None:
    """Two copies of one label hold no more information: the variance of their mean is that of one, not half of it."""
    truth_N, scores_N, _ = sample(200, seed=3)
    macro = macro_roc_auc(np.stack([scores_N] * 2, axis=1), np.stack([truth_N] * 2, axis=1))
    assert macro.interval() == pytest.approx(roc_auc(scores_N, truth_N).interval())


def test_closed_form_agrees_with_resampling() -> None:
    truth_N, better_N, worse_N = sample(2000, seed=4)
    closed = roc_auc(better_N, truth_N).minus(roc_auc(worse_N, truth_N))
    drawn = paired_bootstrap(
        roc_auc_statistic(better_N, truth_N), roc_auc_statistic(worse_N, truth_N), 2000, resamples=500
    )
    assert closed.difference == pytest.approx(drawn.difference)
    assert [closed.low, closed.high] == pytest.approx([drawn.low, drawn.high], abs=0.005)
    assert closed.verdict == drawn.verdict == "better"


def test_pairing_is_sharper_than_two_intervals() -> None:
    """The models share their errors, so the difference is surer than either figure."""
    truth_N, better_N, worse_N = sample(500, seed=5)
    first, second = roc_auc(better_N, truth_N), roc_auc(worse_N, truth_N)
    difference = first.minus(second)
    assert difference.high - difference.low < first.interval().high - first.interval().low


def test_nominal_coverage_under_no_difference() -> None:
    """Two models of equal strength: at 95 %, about 5 % of 300 tests find a difference (binomial sd 1.3 %)."""
    found = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        truth_N = (generator.random(300) < 0.3).astype(float)
        first_N, second_N = (truth_N + generator.normal(size=300) for _ in range(2))
        found += roc_auc(first_N, truth_N).minus(roc_auc(second_N, truth_N)).verdict != "undecided"
    assert 0.01 <= found / 300 <= 0.09


def test_equal_models_are_undecided_with_certainty() -> None:
    truth_N, scores_N, _ = sample(100, seed=6)
    one = roc_auc(scores_N, truth_N)
    assert one.minus(one) == Comparison(0.0, 0.0, 0.0, 1.0)
    assert one.minus(one).verdict == "undecided"


def test_bootstrap_of_a_mean_matches_the_normal_interval() -> None:
    """The mean of 400 values with standard deviation s has the interval mean ± 1.96 s / 20."""
    values_N = np.random.default_rng(7).normal(size=400)
    interval = bootstrap(mean_statistic(values_N), 400, resamples=2000)
    margin = 1.96 * values_N.std() / 20
    assert interval.estimate == pytest.approx(values_N.mean())
    assert [interval.low, interval.high] == pytest.approx(
        [values_N.mean() - margin, values_N.mean() + margin], abs=0.01
    )


def test_bootstrap_is_deterministic_by_seed() -> None:
    values_N = np.arange(50.0)
    first, again, other = (bootstrap(mean_statistic(values_N), 50, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_average_of_statistics() -> None:
    both = average([mean_statistic(np.array([1.0, 3.0])), mean_statistic(np.array([0.0, 2.0]))])
    assert both(np.array([1, 1])) == 1.5


def test_too_few_rows_of_a_class() -> None:
    with pytest.raises(ValueError, match="two rows of each class, got 1 positive and 2 negative"):
        roc_auc(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="no label has two rows of each class"):
        macro_roc_auc(np.zeros((4, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="undefined on 40 of 40 resamples"):
        bootstrap(roc_auc_statistic(np.arange(5.0), np.ones(5)), 5, resamples=40)

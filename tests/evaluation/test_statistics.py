"""Paired tests: hand-worked DeLong, scikit-learn's ROC-AUC, agreement of closed form and resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from detox.evaluation.statistics import (
    Comparison,
    Statistic,
    macro_roc_auc,
    mean_of_means,
    mean_statistic,
    paired_bootstrap,
    roc_auc,
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
    one = roc_auc(scores_N, truth_N)
    assert macro.influence @ macro.influence == pytest.approx(one.influence @ one.influence)


def counted(scores_N: np.ndarray, truth_N: np.ndarray) -> Statistic:
    return lambda counts_N: float(roc_auc_score(truth_N, scores_N, sample_weight=counts_N))


def test_closed_form_agrees_with_resampling() -> None:
    truth_N, better_N, worse_N = sample(2000, seed=4)
    closed = roc_auc(better_N, truth_N).minus(roc_auc(worse_N, truth_N))
    drawn = paired_bootstrap(counted(better_N, truth_N), counted(worse_N, truth_N), 2000, resamples=500)
    assert closed.difference == pytest.approx(drawn.difference)
    assert [closed.low, closed.high] == pytest.approx([drawn.low, drawn.high], abs=0.005)
    assert closed.verdict == drawn.verdict == "better"


def test_pairing_is_sharper_than_two_figures() -> None:
    """The models share their errors, so the difference varies less than either figure."""
    truth_N, better_N, worse_N = sample(500, seed=5)
    first_N, second_N = roc_auc(better_N, truth_N).influence, roc_auc(worse_N, truth_N).influence
    change_N = first_N - second_N
    assert change_N @ change_N < min(first_N @ first_N, second_N @ second_N)


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


def test_resampled_means_match_the_normal_interval() -> None:
    """The mean of 400 differences with standard deviation s has the interval mean ± 1.96 s / 20."""
    first_N, second_N = np.random.default_rng(7).normal(size=(2, 400))
    drawn = paired_bootstrap(mean_statistic(first_N), mean_statistic(second_N), 400, resamples=2000)
    mean, margin = (first_N - second_N).mean(), 1.96 * (first_N - second_N).std() / 20
    assert drawn.difference == pytest.approx(mean)
    assert [drawn.low, drawn.high] == pytest.approx([mean - margin, mean + margin], abs=0.015)


def test_resampling_is_deterministic_by_seed() -> None:
    statistics = (mean_statistic(np.arange(50.0)), mean_statistic(np.zeros(50)))
    first, again, other = (paired_bootstrap(*statistics, 50, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_too_few_rows_of_a_class() -> None:
    with pytest.raises(ValueError, match="two rows of each class, got 1 positive and 2 negative"):
        roc_auc(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="no label has two rows of each class"):
        macro_roc_auc(np.zeros((4, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="undefined on 40 of 40 resamples"):
        paired_bootstrap(lambda _: float("nan"), mean_statistic(np.ones(5)), 5, resamples=40)


def test_the_mean_of_means_weighs_groups_alike() -> None:
    """(0.5 + 0.2) / 2; the first group alone varies, its standard error of 0.05 counts half: 95 % are ±0.049."""
    groups = [np.array([0.0, 1.0] * 50), np.full(400, 0.2)]
    found = mean_of_means(groups)
    assert found.difference == pytest.approx(0.35)
    assert (found.high - found.low) / 2 == pytest.approx(0.049, rel=0.15)
    assert found.p_value == pytest.approx(2 / 1001)
    assert found.verdict == "better"


def test_a_single_value_decides_nothing() -> None:
    found = mean_of_means([np.full(50, 0.3), np.array([0.9])])
    assert found.difference == pytest.approx(0.6)
    assert np.isnan([found.low, found.high]).all()
    assert (found.p_value, found.verdict) == (1.0, "undecided")


def test_many_values_are_drawn_in_blocks() -> None:
    """A million values of which half are 1: 95 % are ±0.00098."""
    found = mean_of_means([np.tile([0.0, 1.0], 500_000)], resamples=200)
    assert (found.low + found.high) / 2 == pytest.approx(0.5, abs=0.0005)
    assert (found.high - found.low) / 2 == pytest.approx(0.00098, rel=0.25)

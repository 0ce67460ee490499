"""Tuned thresholds: the exact optimum, its tie rule, and the curve behind it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from detox.classifier.thresholds import tradeoff, tune_thresholds

PROBABILITIES_N = np.array([0.9, 0.6, 0.4, 0.1], dtype=np.float32)
TARGETS_N = np.array([1, 0, 1, 0], dtype=np.float32)


def test_threshold_by_hand() -> None:
    """Flagging 1, 2, 3 or 4 rows gives F1 2/3, 1/2, 4/5, 2/3: three, so the threshold lies between .4 and .1."""
    (choice,) = tune_thresholds(PROBABILITIES_N[:, None], TARGETS_N[:, None], ["toxic"], minimum_positives=2)
    assert choice.threshold == pytest.approx(0.25)
    assert choice.f1 == pytest.approx(4 / 5)
    assert choice.tuned
    assert choice.reason == "maximises F1 on 4 validation rows, 2 of them positive"


def test_among_equal_maxima_the_highest_threshold_wins() -> None:
    """Truth 1 0 0 1: flagging the first row gives 2/3, flagging all four 2*2/(4+2) = 2/3. The first one flags fewer."""
    truth_N1 = np.array([[1], [0], [0], [1]], dtype=np.float32)
    (choice,) = tune_thresholds(PROBABILITIES_N[:, None], truth_N1, ["toxic"], minimum_positives=1)
    assert choice.threshold == pytest.approx(0.75)


def test_too_few_positives_keep_one_half_and_say_so() -> None:
    (choice,) = tune_thresholds(PROBABILITIES_N[:, None], TARGETS_N[:, None], ["toxic"])
    assert (choice.threshold, choice.tuned, choice.positives) == (0.5, False, 2)
    assert choice.f1 == 0.5
    assert choice.reason == "kept at 0.5: tuning needs 10 positive rows, found 2"


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 7]))
def test_no_threshold_does_better(seed: int, decimals: int) -> None:
    """Against every threshold of scikit-learn's F1, ties among probabilities and missing rows included."""
    generator = np.random.default_rng(seed)
    probabilities_N = generator.random(40).round(decimals).astype(np.float32)
    targets_N = (generator.random(40) < probabilities_N).astype(np.float32)
    targets_N[:2], targets_N[2:5] = 1, np.nan
    (choice,) = tune_thresholds(probabilities_N[:, None], targets_N[:, None], ["toxic"], minimum_positives=1)
    known_N = ~np.isnan(targets_N)
    truth_K, probabilities_K = targets_N[known_N], probabilities_N[known_N]
    best = max(f1_score(truth_K, probabilities_K >= candidate) for candidate in np.unique(probabilities_K))
    assert choice.f1 == pytest.approx(best)
    assert f1_score(truth_K, probabilities_K >= choice.threshold) == pytest.approx(best)


def test_neighbours_in_float32_stay_apart() -> None:
    """Between two neighbouring float32 numbers there is no third: the threshold is the upper one."""
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    (choice,) = tune_thresholds(np.array([[high], [low]]), np.array([[1.0], [0.0]]), ["toxic"], minimum_positives=1)
    assert np.float32(choice.threshold) == high


def test_tradeoff_by_hand() -> None:
    """At 0 all four are flagged, at .5 two (one rightly), at 1 none, where precision has no value."""
    curve = tradeoff(PROBABILITIES_N, TARGETS_N, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(curve.precision, [1 / 2, 1 / 2, np.nan])
    np.testing.assert_allclose(curve.recall, [1, 1 / 2, 0])
    np.testing.assert_allclose(curve.f1, [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(curve.flagged, [1, 1 / 2, 0])


def test_tradeoff_without_positives_has_no_recall() -> None:
    curve = tradeoff(PROBABILITIES_N, np.zeros(4, np.float32))
    assert len(curve.threshold) == 101
    assert np.isnan(curve.recall).all()
    assert np.isnan(curve.f1).all()

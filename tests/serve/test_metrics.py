"""Drift: nothing until there is something to compare, small for the same scores, large for others."""

from __future__ import annotations

import numpy as np
import pytest

from serve.metrics import Drift


def drifted(first: np.ndarray, now: np.ndarray) -> float:
    drift = Drift(window=1000)
    drift.add(first)
    drift.add(now)
    return drift.index()


def test_the_same_scores_have_not_moved() -> None:
    rng = np.random.default_rng(0)
    assert Drift().index() == 0
    assert drifted(rng.beta(1, 5, 1000), rng.beta(1, 5, 400)) == 0  # too few to say
    assert drifted(rng.beta(1, 5, 1000), rng.beta(1, 5, 1000)) < 0.1


def test_other_scores_have() -> None:
    rng = np.random.default_rng(0)
    assert drifted(rng.beta(1, 5, 1000), rng.beta(5, 1, 1000)) > 0.25


def test_the_index_by_hand() -> None:
    """Half in each of two bins, then three quarters and one: 0.25 ln 1.5 + 0.25 ln 2 (and eight bins alike)."""
    first = np.array([0.05] * 500 + [0.95] * 500)
    now = np.array([0.05] * 750 + [0.95] * 250)
    assert drifted(first, now) == pytest.approx(0.25 * np.log(1.5) + 0.25 * np.log(2), rel=1e-6)


def test_older_scores_count_for_less() -> None:
    drift, rng = Drift(window=1000), np.random.default_rng(0)
    drift.add(rng.beta(1, 5, 1000))
    drift.add(rng.beta(5, 1, 1000))
    before = drift.index()
    for _ in range(8):
        drift.add(rng.beta(1, 5, 1000))
    assert drift.index() < before / 4

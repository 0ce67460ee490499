"""Drift: nothing until there is something to compare, small for the same scores, large for others."""

from __future__ import annotations

import numpy as np
import pytest

from serve.judge import Scored
from serve.metrics import Drift, Meters
from tests.serve.judges import MODEL


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


class Recorded:
    """A counter or gauge that keeps what it is given, by its tags."""

    def __init__(self, *_: object, **__: object) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def inc(self, value: float = 1.0, *, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] = self.values.get(tuple(tags.values()), 0) + value

    def set(self, value: float, *, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] = value


def test_texts_and_flags_are_counted_by_version_and_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two texts of one version, one of another; flags are counted from the label's own threshold on."""
    for kind in ("Counter", "Gauge"):
        monkeypatch.setattr(f"serve.metrics.metrics.{kind}", Recorded)
    meters, newer = Meters(every=0), MODEL._replace(version="newer")
    values_NL = np.full((2, len(MODEL.labels)), 0.1, np.float32)
    values_NL[0, MODEL.labels.index("insult")] = 0.5
    values_NL[1, MODEL.labels.index("threat")] = 0.2  # its threshold
    meters.scored(Scored(MODEL, values_NL))
    meters.scored(Scored(newer, values_NL[:1]))
    meters.refused("/v1/classify", "rate_limited")
    counted = {name: getattr(meters, name).values for name in ("_texts", "_above", "_refused", "_gauge")}
    assert counted["_texts"] == {("0123456789ab",): 2, ("newer",): 1}
    assert counted["_above"] == {("insult",): 2, ("threat",): 1}
    assert counted["_refused"] == {("/v1/classify", "rate_limited"): 1}
    assert counted["_gauge"][("newer", "insult")] == 0

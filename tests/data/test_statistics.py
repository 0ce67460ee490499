"""Statistics of a prepared data set, on six rows counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.statistics import (
    LANGUAGE_SAMPLE,
    co_occurrence,
    combinations,
    label_figures,
    language_counts,
    length_figures,
    sample_positions,
    statistics,
)

NAN = float("nan")
LABELS_NL = np.array([[1, 1], [1, 0], [0.5, 0.25], [0, 0], [NAN, 1], [NAN, NAN]], np.float32)


def test_label_figures_leave_missing_rows_out() -> None:
    """Column 0: 1, 1, 0.5 are positive, 0 is negative, two are missing; mean (1 + 1 + 0.5 + 0) / 4 = 0.625."""
    assert label_figures(LABELS_NL[:, 0]) == {
        "positive": 3,
        "negative": 1,
        "missing": 2,
        "share": 0.75,
        "mean": 0.625,
    }


def test_a_label_that_is_missing_everywhere_has_no_share() -> None:
    figures = label_figures(np.array([NAN, NAN], np.float32))
    assert (figures["missing"], figures["share"], figures["mean"]) == (2, None, None)


def test_co_occurrence_counts_pairs_and_takes_missing_as_not_given() -> None:
    """Label 0 in rows 0, 1, 2; label 1 in rows 0, 4; both in row 0."""
    assert co_occurrence(LABELS_NL).tolist() == [[3, 1], [1, 2]]


def test_combinations_by_frequency() -> None:
    """a only: rows 1, 2; none: rows 3, 5; a and b: row 0; b only: row 4. Ties in the order of the label bits."""
    found = combinations(["a", "b"], LABELS_NL)
    assert [(tuple(item["labels"]), item["rows"]) for item in found] == [
        ((), 2),
        (("a",), 2),
        (("b",), 1),
        (("a", "b"), 1),
    ]


def test_language_counts_by_frequency() -> None:
    assert list(language_counts(["de", "en", None, "en"]).items()) == [("en", 2), ("de", 1), ("unknown", 1)]


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=200))
def test_every_length_is_in_one_bin(lengths: list[int]) -> None:
    values_N = np.array(lengths)
    figures = length_figures(values_N, {"train": np.arange(len(values_N))})
    assert sum(figures["histogram"]["rows"]["train"]) == len(lengths)
    assert figures["min"] <= figures["median"] <= figures["max"]
    edges = figures["histogram"]["edges"]
    assert edges[0] == 1
    assert edges == sorted(set(edges))


def test_the_whole_report_splits_labels_by_part() -> None:
    found = statistics(
        ["a", "b"],
        {"train": np.array([0, 1, 2]), "validation": np.array([3]), "test": np.array([4, 5])},
        LABELS_NL,
        {"characters": np.array([1, 2, 3, 4, 5, 6])},
        ["en"],
    )
    assert found["rows"] == {"train": 3, "validation": 1, "test": 2}
    assert [found["labels"]["b"][part]["positive"] for part in ("train", "validation", "test")] == [1, 0, 1]
    assert found["lengths"]["characters"]["mean"] == 3.5
    assert found["languages"] == {"sample": 1, "rows": {"en": 1}}


def test_the_language_sample_is_drawn_by_seed_without_repetition() -> None:
    drawn = sample_positions(10 * LANGUAGE_SAMPLE, seed=1)
    assert len(np.unique(drawn)) == LANGUAGE_SAMPLE
    assert (np.diff(drawn) > 0).all()
    assert (drawn == sample_positions(10 * LANGUAGE_SAMPLE, seed=1)).all()
    assert (drawn != sample_positions(10 * LANGUAGE_SAMPLE, seed=2)).any()
    assert sample_positions(3, seed=1).tolist() == [0, 1, 2]


def test_label_figures_are_exact_for_many_rows() -> None:
    """A float32 mean of 4 million values of 0.1 would drift; summed in float64 it is the float32 number 0.1."""
    figures = label_figures(np.full(4_000_000, 0.1, np.float32))
    assert figures["mean"] == pytest.approx(np.float64(np.float32(0.1)), abs=1e-12)

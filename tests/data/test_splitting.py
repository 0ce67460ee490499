"""Stratified parts: shares, rare labels, groups, named parts, impossible splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.settings import SplitSettings
from detox.data.splitting import split


def _split(
    labels_NL: np.ndarray,
    named: list[str] | None = None,
    groups: list[int] | None = None,
    seed: int = 42,
    **choices: object,
) -> np.ndarray:
    rows = len(labels_NL)
    named_N = np.array(named if named is not None else [""] * rows, object)
    groups_N = np.array(groups if groups is not None else range(rows), np.int64)
    labels = [f"label_{column}" for column in range(labels_NL.shape[1])]
    return split(labels_NL, labels, named_N, groups_N, SplitSettings.model_validate(choices), seed)


def _sizes(codes_N: np.ndarray) -> list[int]:
    return np.bincount(codes_N, minlength=3).tolist()


def _labels(*columns: list[float]) -> np.ndarray:
    return np.array(columns, np.float32).T


def test_every_combination_has_its_share_of_every_part() -> None:
    """100 + 50 + 20 rows of three combinations at 60/20/20: 60, 20, 20 and 30, 10, 10 and 12, 4, 4."""
    labels_NL = np.repeat(np.array([[0, 0], [1, 0], [1, 1]], np.float32), [100, 50, 20], axis=0)
    codes_N = _split(labels_NL)
    assert _sizes(codes_N) == [102, 34, 34]
    assert _sizes(codes_N[:100]) == [60, 20, 20]
    assert _sizes(codes_N[100:150]) == [30, 10, 10]
    assert _sizes(codes_N[150:]) == [12, 4, 4]


def test_fractions_count_from_a_half_and_missing_is_a_kind_of_its_own() -> None:
    """Ten rows each of 0.5, of 0.49 and of missing: every kind is dealt 6, 2, 2."""
    codes_N = _split(np.repeat(np.array([[0.5], [0.49], [np.nan]], np.float32), 10, axis=0))
    assert [_sizes(codes_N[start : start + 10]) for start in (0, 10, 20)] == [[6, 2, 2]] * 3


def test_a_label_of_three_rows_is_in_every_part() -> None:
    """Shares of 1.8, 0.6 and 0.6 rows: one each."""
    codes_N = _split(_labels([1.0] * 3 + [0.0] * 997))
    assert sorted(codes_N[:3].tolist()) == [0, 1, 2]
    assert np.abs(np.array(_sizes(codes_N)) - [600, 200, 200]).max() <= 1


def test_seeds_decide_and_nothing_else() -> None:
    labels_NL = (np.random.default_rng(0).random((500, 2)) < 0.2).astype(np.float32)
    assert np.array_equal(_split(labels_NL), _split(labels_NL))
    assert not np.array_equal(_split(labels_NL), _split(labels_NL, seed=43))


def test_stratify_on_chooses_labels() -> None:
    """Stratified on the first label alone, whose two values have 50 rows each; the second is left to chance."""
    labels_NL = _labels([1.0, 0.0] * 50, list(np.random.default_rng(1).random(100)))
    codes_N = _split(labels_NL, stratify_on=("label_0",))
    assert _sizes(codes_N[::2]) == _sizes(codes_N[1::2]) == [30, 10, 10]


def test_rows_without_labels_are_dealt_by_the_ratios() -> None:
    assert _sizes(_split(np.zeros((50, 0), np.float32), ratios=(0.8, 0.1, 0.1))) == [40, 5, 5]


def test_a_ratio_of_zero_leaves_a_part_empty() -> None:
    assert _sizes(_split(_labels([0.0] * 10), ratios=(0.8, 0.2, 0.0))) == [8, 2, 0]


def test_groups_stay_whole_and_parts_keep_their_size() -> None:
    """20 groups of 5 rows at 60/20/20: 12, 4 and 4 groups."""
    groups = [number for number in range(20) for _ in range(5)]
    codes_N = _split(_labels([0.0, 0.0, 1.0, 0.0, 0.0] * 20), groups=groups)
    assert _sizes(codes_N) == [60, 20, 20]
    assert all(len(set(codes_N[start : start + 5].tolist())) == 1 for start in range(0, 100, 5))


def test_one_giant_group_goes_where_it_fits() -> None:
    """A group of 50 among 100 rows fits only the train part of 60; the other rows fill the rest."""
    codes_N = _split(_labels([0.0] * 100), groups=[0] * 50 + list(range(1, 51)))
    assert _sizes(codes_N) == [60, 20, 20]
    assert set(codes_N[:50].tolist()) == {0}


def test_named_parts_are_kept() -> None:
    named = ["train"] * 5 + ["validation"] * 3 + ["test"] * 2
    assert _split(_labels([0.0] * 10), named).tolist() == [0] * 5 + [1] * 3 + [2] * 2


def test_named_parts_are_ignored_when_asked() -> None:
    named = ["train"] * 5 + ["test"] * 5
    assert _sizes(_split(_labels([0.0] * 10), named, keep_named=False)) == [6, 2, 2]


def test_a_missing_validation_part_is_cut_from_train_and_test_stays_whole() -> None:
    """80 named train rows at 60/20: 60 and 20."""
    codes_N = _split(_labels([0.0] * 100), ["train"] * 80 + ["test"] * 20)
    assert _sizes(codes_N[:80]) == [60, 20, 0]
    assert _sizes(codes_N[80:]) == [0, 0, 20]


def test_the_named_test_of_an_80_20_recipe_stays_whole() -> None:
    """S3: train 80/20 into train and validation, the official test as it is, with a ratio of zero."""
    codes_N = _split(_labels([0.0] * 130), ["train"] * 100 + ["test"] * 30, ratios=(0.8, 0.2, 0.0))
    assert _sizes(codes_N) == [80, 20, 30]


def test_unnamed_rows_are_dealt_beside_named_ones() -> None:
    named = ["train"] * 10 + ["validation"] * 10 + ["test"] * 10 + [""] * 50
    assert _sizes(_split(_labels([0.0] * 80), named)[30:]) == [30, 10, 10]


def test_unnamed_rows_follow_the_named_rows_of_their_group() -> None:
    named = ["train", "validation", "test", "", "", ""]
    assert _split(_labels([0.0] * 6), named, groups=[0, 1, 2, 2, 1, 0]).tolist() == [0, 1, 2, 2, 1, 0]


def test_a_train_row_alike_a_test_row_is_not_cut_for_validation() -> None:
    """Every second train row is in a group with a test row: the cut of 20 in 80 comes from the other 40, 10 of them."""
    groups = list(range(80)) + list(range(0, 80, 2))
    codes_N = _split(_labels([0.0] * 120), ["train"] * 80 + ["test"] * 40, groups=groups)
    assert set(codes_N[:80:2].tolist()) == {0}
    assert _sizes(codes_N) == [70, 10, 40]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(120, 300), st.sampled_from([(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.8, 0.2, 0.0)])
)
def test_sizes_hold_and_groups_are_never_divided(seed: int, rows: int, ratios: tuple[float, float, float]) -> None:
    """Groups of at most three rows: a part is off by two of them at most, which a rare label may have asked for."""
    rng = np.random.default_rng(seed)
    labels_NL = (rng.random((rows, 4)) < rng.random(4) ** 2).astype(np.float32)
    labels_NL[rng.random((rows, 4)) < 0.05] = np.nan
    groups = (np.arange(rows) // rng.integers(1, 4)).tolist()
    codes_N = _split(labels_NL, groups=groups, ratios=ratios, seed=seed)
    assert all(len(set(codes_N[np.array(groups) == group].tolist())) == 1 for group in set(groups))
    assert np.abs(np.array(_sizes(codes_N)) - np.array(ratios) * rows).max() <= 6


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.integers(31, 400), st.integers(0, 2**32))
def test_a_rare_label_is_in_every_part(positives: int, rows: int, seed: int) -> None:
    codes_N = _split(_labels([1.0] * positives + [0.0] * (rows - positives)), ratios=(0.8, 0.1, 0.1), seed=seed)
    assert set(codes_N[:positives].tolist()) == {0, 1, 2}


def test_fewer_rows_than_parts_stop() -> None:
    with pytest.raises(ValueError, match="'validation' would have no rows: 1 rows fall into 1 train.*split.ratios"):
        _split(_labels([1.0]))


def test_no_rows_named_train_stop() -> None:
    with pytest.raises(ValueError, match="'train' would have no rows.*keep no named parts"):
        _split(_labels([0.0] * 4), ["test"] * 4)


def test_all_rows_in_one_group_stop() -> None:
    with pytest.raises(ValueError, match="'validation' would have no rows"):
        _split(_labels([0.0] * 9), groups=[0] * 9)


def test_an_unknown_label_to_stratify_on_stops() -> None:
    with pytest.raises(ValueError, match="stratify_on names 'toxik'.*label_0, label_1"):
        _split(np.zeros((5, 2), np.float32), stratify_on=("toxik",))

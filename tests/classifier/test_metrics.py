"""Figures: hand-worked, equal to scikit-learn's, masked label by label, never a silent value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from detox.classifier.metrics import classification_metrics, confusion, regression_metrics

NAN = float("nan")
PROBABILITIES_N1 = np.array([[0.9], [0.6], [0.4], [0.1]], dtype=np.float32)
TARGETS_N1 = np.array([[1], [0], [1], [0]], dtype=np.float32)


def sample(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two labels and 0/1 targets that they predict, both classes present."""
    generator = np.random.default_rng(seed)
    probabilities_NL = generator.random((rows, 2)).astype(np.float32)
    targets_NL = (generator.random((rows, 2)) < probabilities_NL).astype(np.float32)
    targets_NL[0], targets_NL[1] = 0, 1
    return probabilities_NL, targets_NL


def test_classification_by_hand() -> None:
    """Ranked 1 0 1 0: three of four pairs are in order, so ROC-AUC is 3/4; average precision is (1/1 + 2/3) / 2 = 5/6.

    From 0.5 on two rows are flagged, one rightly, of two positives: precision, recall and F1 are 1/2. From 0.3 on
    three are flagged, two rightly: precision 2/3, recall 1, F1 4/5. Each row has a calibration bin of its own, with
    gaps .1, .6, .6 and .1: ECE 0.35.
    """
    figures = classification_metrics(PROBABILITIES_N1, TARGETS_N1, ["toxic"], [0.3])
    expected = {
        "roc_auc": 3 / 4,
        "pr_auc": 5 / 6,
        "ece": 0.35,
        "precision@0.5": 1 / 2,
        "recall@0.5": 1 / 2,
        "f1@0.5": 1 / 2,
        "precision@tuned": 2 / 3,
        "recall@tuned": 1.0,
        "f1@tuned": 4 / 5,
    }
    by_label = {f"{name}/{part}": value for name, value in expected.items() for part in ("toxic", "macro")}
    counts = {"rows/toxic": 4.0, "positives/toxic": 2.0, "labels_in_macro": 1.0}
    assert figures == pytest.approx(by_label | counts)


@given(st.integers(0, 10_000))
def test_classification_equals_scikit_learn(seed: int) -> None:
    probabilities_NL, targets_NL = sample(50, seed)
    figures = classification_metrics(probabilities_NL, targets_NL, ["a", "b"], [0.3, 0.7])
    for column, (label, threshold) in enumerate([("a", 0.3), ("b", 0.7)]):
        truth_N, scores_N = targets_NL[:, column], probabilities_NL[:, column]
        assert figures[f"roc_auc/{label}"] == pytest.approx(sklearn_metrics.roc_auc_score(truth_N, scores_N))
        assert figures[f"pr_auc/{label}"] == pytest.approx(sklearn_metrics.average_precision_score(truth_N, scores_N))
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            truth_N, scores_N >= threshold, average="binary", zero_division=0.0
        )
        decided = [figures[f"{name}@tuned/{label}"] for name in ("precision", "recall", "f1")]
        assert decided == pytest.approx([precision, recall, f1])
    assert figures["roc_auc/macro"] == pytest.approx((figures["roc_auc/a"] + figures["roc_auc/b"]) / 2)


@given(st.integers(0, 10_000))
def test_missing_targets_count_as_if_the_row_were_not_there(seed: int) -> None:
    probabilities_NL, targets_NL = sample(40, seed)
    more_NL = np.concatenate([probabilities_NL, np.full((5, 2), 0.99, np.float32)])
    missing_NL = np.concatenate([targets_NL, np.full((5, 2), NAN, np.float32)])
    without = classification_metrics(probabilities_NL, targets_NL, ["a", "b"])
    assert classification_metrics(more_NL, missing_NL, ["a", "b"]) == without
    assert regression_metrics(more_NL, missing_NL, ["a", "b"]) == regression_metrics(
        probabilities_NL, targets_NL, ["a", "b"]
    )


def test_a_label_of_one_class_is_named_and_left_out_of_the_macro() -> None:
    targets_NL = np.concatenate([TARGETS_N1, np.zeros((4, 1), np.float32)], axis=1)
    figures = classification_metrics(np.repeat(PROBABILITIES_N1, 2, axis=1), targets_NL, ["toxic", "threat"])
    assert figures["one_class/threat"] == 1.0
    assert figures["labels_in_macro"] == 1.0
    assert figures["roc_auc/macro"] == 0.75
    assert {name for name in figures if name.endswith("/threat")} == {
        "one_class/threat",
        "rows/threat",
        "positives/threat",
    }


def test_no_label_with_both_classes_gives_no_macro() -> None:
    figures = classification_metrics(PROBABILITIES_N1, np.ones((4, 1), np.float32), ["toxic"])
    assert figures == {"rows/toxic": 4.0, "positives/toxic": 4.0, "one_class/toxic": 1.0, "labels_in_macro": 0.0}


def test_nothing_flagged_has_precision_zero() -> None:
    figures = classification_metrics(PROBABILITIES_N1, TARGETS_N1, ["toxic"], [1.0])
    assert [figures[f"{name}@tuned/toxic"] for name in ("precision", "recall", "f1")] == [0, 0, 0]


def test_fractions_are_positive_from_one_half_on() -> None:
    """Targets .5 and .75 are positive, .49 and 0 are not: as in the hand-worked case."""
    fractions_N1 = np.array([[0.5], [0.49], [0.75], [0.0]], dtype=np.float32)
    figures = classification_metrics(PROBABILITIES_N1, fractions_N1, ["toxic"])
    assert figures["roc_auc/toxic"] == 0.75
    assert figures["positives/toxic"] == 2


def test_regression_by_hand() -> None:
    """Errors .1 .1 -.1 -.1: MSE .01, MAE .1. Targets vary by (.3² + 0 + 0 + .3²) / 4 = .045: R² = 1 - .01/.045 = 7/9.

    Ranks 4 3 2 1 against 4 2.5 2.5 1: Spearman is 4.5 / sqrt(5 * 4.5) = sqrt(.9).
    """
    targets_N1 = np.array([[0.8], [0.5], [0.5], [0.2]], dtype=np.float32)
    figures = regression_metrics(PROBABILITIES_N1, targets_N1, ["toxicity"])
    expected = {"mse": 0.01, "mae": 0.1, "r2": 7 / 9, "spearman": 0.9**0.5}
    by_label = {f"{name}/{part}": value for name, value in expected.items() for part in ("toxicity", "macro")}
    assert figures == pytest.approx(by_label | {"rows/toxicity": 4.0, "labels_in_macro": 1.0}, rel=1e-5)


def test_a_constant_target_is_named_and_has_errors_only() -> None:
    targets_NL = np.concatenate([TARGETS_N1, np.full((4, 1), 0.5, np.float32)], axis=1)
    figures = regression_metrics(np.repeat(PROBABILITIES_N1, 2, axis=1), targets_NL, ["varied", "flat"])
    assert figures["constant/flat"] == 1.0
    assert not {"r2/flat", "spearman/flat"} & set(figures)
    assert figures["mse/flat"] == pytest.approx((0.16 + 0.01) / 2)
    assert figures["mse/macro"] == pytest.approx((figures["mse/varied"] + figures["mse/flat"]) / 2)
    assert figures["r2/macro"] == figures["r2/varied"]


def test_equal_predictions_have_all_figures_but_an_order() -> None:
    """All 0.5 against 1 0 1 0: MSE 1/4, MAE 1/2; as good as the targets' mean, so R² is 0."""
    figures = regression_metrics(np.full((4, 1), 0.5, np.float32), TARGETS_N1, ["toxicity"])
    by_label = {f"{name}/{part}": value for name, value in (("mse", 0.25), ("mae", 0.5), ("r2", 0.0))
                for part in ("toxicity", "macro")}  # fmt: skip
    assert figures == by_label | {"rows/toxicity": 4.0, "labels_in_macro": 1.0}


def test_confusion_by_hand() -> None:
    missing_N = np.array([1, 0, 1, NAN], dtype=np.float32)
    assert confusion(PROBABILITIES_N1[:, 0], missing_N, 0.5).tolist() == [[0, 1], [1, 1]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions \(4, 1\), targets \(4, 1\) and 2 labels must agree"):
        classification_metrics(PROBABILITIES_N1, TARGETS_N1, ["a", "b"])
    with pytest.raises(ValueError, match=r"numbers in 0..1, found nan: apply the sigmoid"):
        classification_metrics(np.full((4, 1), NAN), TARGETS_N1, ["a"])
    with pytest.raises(ValueError, match=r"numbers in 0..1, found 1.5"):
        regression_metrics(np.full((4, 1), 1.5), TARGETS_N1, ["a"])

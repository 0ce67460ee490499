"""Which test rows are shown: the surest of each kind, legible ones, none twice."""

from __future__ import annotations

import numpy as np

from detox.classifier.examples import examples, to_explain
from tests.classifier.test_evaluation import evaluation


def test_the_surest_examples_of_each_kind_come_first() -> None:
    result = evaluation(0.6, None)
    alarms, missed = examples(result, "flagged, and should not be"), examples(result, "missed")
    assert alarms
    assert missed
    assert [e.probability for e in alarms] == sorted((e.probability for e in alarms), reverse=True)
    assert [e.probability for e in missed] == sorted(e.probability for e in missed)
    thresholds = {choice.label: choice.threshold for choice in result.thresholds}
    assert all(e.probability >= thresholds[e.label] for e in alarms)
    hits = examples(result, "rightly flagged")
    targets_NL = result.test_targets_NL
    assert all(targets_NL[e.row, result.labels.index(e.label)] == 1 for e in [*hits, *missed])
    flags = sum(
        int((result.test_probabilities_NL[:, column] >= thresholds[label]).sum())
        for column, label in enumerate(result.labels)
    )
    assert len(hits) + len(alarms) == flags


def test_a_missing_label_is_no_example() -> None:
    targets_NL = np.full_like(evaluation(0.6, None).test_targets_NL, np.nan)
    unlabelled = evaluation(0.6, None, test_targets_NL=targets_NL)
    assert to_explain(unlabelled) == []


def test_rows_to_explain_are_legible_and_come_once() -> None:
    """One comment of each label, one false alarm, one miss; comments of a letter or a page are passed over."""
    base = evaluation(0.6, None)
    texts = [["x", "a comment of a legible length", "page " * 200][row % 3] for row in range(len(base.test_texts))]
    chosen = to_explain(evaluation(0.6, None, test_texts=texts))
    assert [e.kind for e in chosen] == ["rightly flagged"] * 2 + ["flagged, and should not be", "missed"]
    assert [e.label for e in chosen[:2]] == ["toxic", "insult"]
    assert len({e.row for e in chosen}) == 4
    assert all(texts[e.row] == "a comment of a legible length" for e in chosen)

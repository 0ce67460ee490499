"""Kaggle's file: its columns and order, every row once, and text that only looks missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detox.classifier import submission
from detox.classifier.scorer import Scores
from detox.classifier.submission import KAGGLE_LABELS, write_submission


class LengthScorer:
    """The first label is a thousandth of the text's length, so that every row can be told apart."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.calls: list[int] = []

    def score(self, texts: Sequence[str]) -> Scores:
        self.calls.append(len(texts))
        values_NL = np.zeros((len(texts), len(self.labels)), np.float32)
        values_NL[:, self.labels.index("toxic")] = [len(text) / 1000 for text in texts]
        return Scores(self.labels, values_NL)


def test_format_order_and_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "CHUNK", 2)
    texts = ["NA", "", 'two\nlines, "quoted"', "null", "déjà vu"]
    source = tmp_path / "test.csv"
    pd.DataFrame({"id": ["00a", "1", "2", "3", "nan"], "comment_text": texts}).to_csv(source, index=False)
    scorer = LengthScorer(reversed(KAGGLE_LABELS))
    assert write_submission(scorer, source, tmp_path / "submission.csv") == 5
    written = pd.read_csv(tmp_path / "submission.csv", dtype={"id": str}, keep_default_na=False)
    assert list(written.columns) == ["id", *KAGGLE_LABELS]
    assert list(written["id"]) == ["00a", "1", "2", "3", "nan"]
    assert list(written["toxic"]) == pytest.approx([len(text) / 1000 for text in texts])
    assert scorer.calls == [2, 2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "test.csv"]


def test_a_model_with_other_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has no severe_toxic, obscene, threat, insult, identity_hate"):
        write_submission(LengthScorer(["toxic"]), tmp_path / "test.csv", tmp_path / "submission.csv")


def test_a_missing_column_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = tmp_path / "test.csv"
    source.write_text("id,comment\n1,hello\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no column comment_text: it has id, comment"):
        write_submission(LengthScorer(KAGGLE_LABELS), source, tmp_path / "submission.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["test.csv"]

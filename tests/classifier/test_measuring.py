"""A scorer on labelled comments: by hand, as a job, and against a running service's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from detox.classifier import endpoint_scorer
from detox.classifier.measuring_settings import EvaluateScorerConfig, scorer_name
from detox.runs.config import override
from rayjobs.evaluate import classifier, run
from tests.classifier.test_scorer import write_run

ROWS = 60


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """Sixty comments, every third of them toxic, by the word `stupid`, which the lexicon below knows."""
    words = [f"word{number}" for number in range(ROWS)]
    lines = [f"{word} stupid thing {number},1" for number, word in enumerate(words) if number % 3 == 0]
    lines += [f"{word} nice thing {number},0" for number, word in enumerate(words) if number % 3]
    (tmp_path / "comments.csv").write_text("text,toxic,other\n" + "".join(f"{line},0\n" for line in lines))
    (tmp_path / "words.txt").write_text("stupid\n")
    return tmp_path / "comments.csv"


def config(comments: Path, **changes: object) -> EvaluateScorerConfig:
    changes = {
        "data.source": (str(comments),),
        "data.label_columns": ("toxic",),
        "run.storage": str(comments.parent / "runs"),
        "run.name": "measured",
    } | changes
    return override(classifier(), changes)


def test_a_lexicon_that_knows_the_word_is_right(comments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run(config(comments, model=f"lexicon:{comments.parent / 'words.txt'}", all_rows=True), "classifier")
    assert summary["roc_auc/toxic"] == 1.0
    assert summary["texts"] == ROWS
    assert "macro ROC-AUC 1.0000 on 60 texts (toxic)" in capsys.readouterr().out
    assert "By label" in (comments.parent / "runs" / "measured" / "report.html").read_text()


def test_the_test_part_alone_and_labels_that_the_scorer_lacks(comments: Path, tmp_path: Path) -> None:
    labels = {"data.label_columns": ("toxic", "other")}
    summary = run(config(comments, model=f"lexicon:{comments.parent / 'words.txt'}", **labels), "classifier")
    assert summary["texts"] == ROWS // 5
    assert "The scorer has no label other" in (comments.parent / "runs" / "measured" / "report.html").read_text()
    with pytest.raises(ValueError, match="name columns as the scorer names its labels"):
        run(
            config(comments, model=str(write_run(tmp_path / "model", labels=["rude", "mean"])), **{"run.name": "none"}),
            "classifier",
        )


def test_what_stops_it(comments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_scorer, "TRIES", 2)  # with pauses that double, six take 16 s
    with pytest.raises(ValueError, match="name a running service with --endpoint"):
        run(config(comments), "classifier")
    with pytest.raises(ValueError, match="leave one out"):
        config(comments, model="tiny/bert", endpoint="http://127.0.0.1:8000")
    assert scorer_name(config(comments, endpoint="http://127.0.0.1:9")) == "endpoint:http://127.0.0.1:9"
    with pytest.raises(ValueError, match="does not answer"):
        run(config(comments, endpoint="http://127.0.0.1:9"), "classifier")

"""Jigsaw's Toxic Comment Classification Challenge (2018): Wikipedia talk-page comments, six labels (S3 section 2)."""

from __future__ import annotations

from collections.abc import Iterator

from detox.data.sources.source import Columns, Comment, Join, Source

LABELS: tuple[str, ...] = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def comments(record: Columns) -> Iterator[Comment]:
    """-1 in `test_labels.csv` marks a comment that was not used for scoring: its labels are missing."""
    labels = {label: None if str(record[label]).strip() == "-1" else record[label] for label in LABELS}
    yield Comment(record["comment_text"], labels)


SOURCE = Source(
    name="jigsaw2018",
    title="Jigsaw Toxic Comment Classification Challenge (2018)",
    licence="CC0-1.0 (annotations); comments CC BY-SA 3.0, from Wikipedia",
    homepage="https://www.kaggle.com/c/jigsaw-toxic-comment-classification-challenge",
    obtain=(
        "accept the rules of the challenge on Kaggle, run `kaggle competitions download -c "
        "jigsaw-toxic-comment-classification-challenge`, and unpack train.csv, test.csv and test_labels.csv "
        "into a folder"
    ),
    labels=LABELS,
    mapping="The six columns, 0 or 1; test.csv is joined with test_labels.csv on id, where -1 means missing.",
    columns={"comment_text": ("comment_text", "text"), **{label: (label,) for label in LABELS}},
    comments=comments,
    local={"train": ("train.csv", "jigsaw_sixlabel*.parquet"), "test": ("test.csv",)},
    join=Join(split="test", files=("test_labels.csv",), key="id"),
)

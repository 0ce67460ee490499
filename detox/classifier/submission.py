"""Kaggle's `submission.csv` for an unlabelled file: an id and a probability a label (S3 section 8)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from detox.classifier.scorer import Scorer

KAGGLE_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
"""Columns of the Toxic Comment Classification Challenge (2018), in its order."""
CHUNK = 4096
"""Comments read, scored and written at once: bounds the memory."""


def write_submission(
    scorer: Scorer, source: Path, target: Path, id_column: str = "id", text_column: str = "comment_text"
) -> int:
    """Score the csv file `source` and write `target` in the competition's format, rows in the order of `source`.

    `target` appears whole or not at all. An empty comment is scored as it is.

    Returns:
        the number of rows.

    Raises:
        ValueError, FileNotFoundError: see `check_submission`.
    """
    check_submission(scorer.labels, source, id_column, text_column)
    beside = target.with_name(f".{target.name}.part")
    rows = 0
    chunks = pd.read_csv(
        source, usecols=[id_column, text_column], dtype=str, keep_default_na=False, chunksize=CHUNK, encoding="utf-8"
    )
    with beside.open("w", encoding="utf-8", newline="") as file:
        for number, chunk in enumerate(chunks):
            scores = scorer.score(chunk[text_column].tolist())
            frame = pd.DataFrame(scores.values_NL, columns=list(scores.labels))[list(KAGGLE_LABELS)]
            frame.insert(0, "id", chunk[id_column].to_numpy())
            frame.to_csv(file, index=False, header=number == 0, float_format="%.7g", lineterminator="\n")
            rows += len(frame)
    os.replace(beside, target)
    return rows


def check_submission(
    labels: Sequence[str], source: Path, id_column: str = "id", text_column: str = "comment_text"
) -> None:
    """What `write_submission` will need, checked before a model with these labels is trained.

    Raises:
        ValueError: a label of the competition is not among `labels`, or the file lacks one of its columns.
        FileNotFoundError: there is no such file.
    """
    missing = [label for label in KAGGLE_LABELS if label not in labels]
    if missing:
        raise ValueError(
            f"a submission needs the six labels of the competition, and the model has no {', '.join(missing)}: "
            "use a model trained on the labels of Jigsaw 2018"
        )
    there = list(pd.read_csv(source, nrows=0, encoding="utf-8").columns)
    missing = [column for column in (id_column, text_column) if column not in there]
    if missing:
        raise ValueError(
            f"{source} has no column {', '.join(missing)}: it has {', '.join(there)}; the competition's test.csv has "
            "id and comment_text"
        )

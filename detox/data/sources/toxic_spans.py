"""Toxic Spans, SemEval-2021 task 5 (Pavlopoulos et al. 2021): toxic comments with the characters that make them so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

PARTS: dict[Any, str] = {"trial": "validation"}


def comments(record: Columns) -> Iterator[Comment]:
    split = record["split"]
    labels = {"toxic": 1.0, "span": _has_span(record["spans"])}
    yield Comment(record["text"], labels, PARTS.get(split, split))


def _has_span(raw: Any) -> Any:
    """0 or 1; what is no list of offsets as it stands, to be refused."""
    try:
        spans = json.loads(raw) if isinstance(raw, str) else raw
    except json.JSONDecodeError:
        return raw
    return float(bool(spans)) if isinstance(spans, list) else raw


SOURCE = Source(
    name="toxic_spans",
    title="Toxic Spans Detection (SemEval-2021 task 5)",
    licence="CC0-1.0",
    homepage="https://github.com/ipavlopoulos/toxic_spans",
    obtain="run `git clone https://github.com/ipavlopoulos/toxic_spans` and give its folder SemEval2021/data",
    labels=("toxic", "span"),
    mapping=(
        "`toxic`: 1, since only comments that most raters of Civil Comments called toxic were annotated; `span`: 1 "
        "where the annotators could point at the characters that make it so. The trial part is read as validation."
    ),
    columns={"text": ("text",), "spans": ("spans",), "split": ("split",)},
    comments=comments,
    optional=("split",),
    revision="e5f546b6afac1834174bb356813dca31d31de8bd",
    local={
        "train": ("tsd_train.csv", "toxic_spans_train.parquet"),
        "validation": ("tsd_trial.csv",),
        "test": ("tsd_test.csv", "tsd_test_official.csv"),
    },
)

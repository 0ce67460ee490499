"""Davidson et al. 2017 (arXiv:1703.04009): tweets, each read by three or more people as hate, offensive or neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

LABELS: tuple[str, ...] = ("toxic", "hate_speech", "offensive_language")


def comments(record: Columns) -> Iterator[Comment]:
    counts = [record[name] for name in ("hate_speech_count", "offensive_language_count", "neither_count")]
    yield Comment(record["tweet"], dict(zip(LABELS, _shares(counts), strict=True)))


def _shares(counts: list[Any]) -> list[Any]:
    """Share of readers for toxic, hate, offensive; without counts that make sense, the counts as they stand."""
    try:
        hate, offensive, neither = map(int, counts)
    except (TypeError, ValueError):
        return [counts] * len(LABELS)
    total = hate + offensive + neither
    return [(hate + offensive) / total, hate / total, offensive / total] if total else [None] * len(LABELS)


SOURCE = Source(
    name="davidson",
    title="Hate Speech and Offensive Language (Davidson et al. 2017)",
    licence="MIT (the authors' repository; the hub's card says unknown)",
    homepage="https://huggingface.co/datasets/tdavidson/hate_speech_offensive",
    obtain=(
        "the hub has it without registration; or take data/labeled_data.csv of "
        "https://github.com/t-davidson/hate-speech-and-offensive-language"
    ),
    labels=LABELS,
    mapping=(
        "`hate_speech`, `offensive_language`: the share of readers who chose the class; `toxic`: the share who chose "
        "either of the two."
    ),
    columns={
        "tweet": ("tweet", "text"),
        "hate_speech_count": ("hate_speech_count", "hate_speech"),
        "offensive_language_count": ("offensive_language_count", "offensive_language"),
        "neither_count": ("neither_count", "neither"),
    },
    comments=comments,
    hub="tdavidson/hate_speech_offensive",
    revision="adc5fb774614827695774f2dbe0ea8122f6a92b4",
    local={"train": ("labeled_data.csv", "davidson.parquet", "data/train-*.parquet")},
)

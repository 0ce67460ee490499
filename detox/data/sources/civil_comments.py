"""Civil Comments, also Jigsaw's Unintended Bias challenge (2019): news comments with the share of raters a label."""

from __future__ import annotations

from detox.data.sources.source import Source, plain_comments

LABELS: tuple[str, ...] = (
    "toxicity",
    "severe_toxicity",
    "obscene",
    "threat",
    "insult",
    "identity_attack",
    "sexual_explicit",
)

SOURCE = Source(
    name="civil_comments",
    title="Civil Comments (Jigsaw Unintended Bias in Toxicity Classification)",
    licence="CC0-1.0",
    homepage="https://huggingface.co/datasets/google/civil_comments",
    obtain=(
        "the hub has it without registration; or take the files of "
        "https://www.kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification"
    ),
    labels=LABELS,
    mapping="The share of raters who chose the label, as it is. Kaggle's train.csv calls toxicity `target`.",
    columns={
        "text": ("text", "comment_text"),
        "toxicity": ("toxicity", "target"),
        **{label: (label,) for label in LABELS[1:]},
    },
    comments=plain_comments("text", LABELS),
    hub="google/civil_comments",
    revision="f2970eb3a55777454c94069077cc8d9b5866312d",
    local={
        "train": ("train.csv", "train-*.parquet", "data/train-*.parquet"),
        "validation": ("validation-*.parquet", "data/validation-*.parquet"),
        "test": ("test_p*_expanded.csv", "test-*.parquet", "data/test-*.parquet"),
    },
)

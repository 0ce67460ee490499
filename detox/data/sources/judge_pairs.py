"""The pairs that prepared pairs keep for judges (`detox.data.pairs`), as comments: every toxic side, every neutral one.

No rewriter is trained on them, so a classifier of them can judge what a rewriter or a reward made of others.
"""

from __future__ import annotations

from collections.abc import Iterator

from detox.data.sources.source import Columns, Comment, Source


def comments(record: Columns) -> Iterator[Comment]:
    yield Comment(record["toxic"], {"toxic": 1.0})
    yield Comment(record["neutral"], {"toxic": 0.0})


SOURCE = Source(
    name="judge_pairs",
    title="The judge part of prepared pairs",
    licence="that of the pairs",
    homepage="the card (README.md) of the prepared pairs",
    obtain="give the folder of prepared pairs, which `python -m rayjobs.train_rewriter` prints after `pairs:`",
    labels=("toxic",),
    mapping="`toxic`: 1 for the toxic side of a pair, 0 for its neutral side; a side of several pairs counts once.",
    columns={"toxic": ("toxic",), "neutral": ("neutral",)},
    comments=comments,
    local={"train": ("judge.parquet",)},
)

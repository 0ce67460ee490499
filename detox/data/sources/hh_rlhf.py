"""Anthropic's hh-rlhf, harmless-base (Bai et al. 2022, arXiv:2204.05862): two dialogues, of which people rejected one.

A record gives two comments, the last assistant turn of `chosen` and of `rejected`: the dialogues agree up to there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

ASSISTANT = "\n\nAssistant:"


def comments(record: Columns) -> Iterator[Comment]:
    for column, rejected in (("chosen", 0.0), ("rejected", 1.0)):
        yield Comment(_last_turn(record[column]), {"rejected": rejected})


def _last_turn(dialogue: Any) -> Any:
    return dialogue.rpartition(ASSISTANT)[2].strip() if isinstance(dialogue, str) else dialogue


SOURCE = Source(
    name="hh_rlhf",
    title="Anthropic hh-rlhf, harmless-base",
    licence="MIT",
    homepage="https://huggingface.co/datasets/Anthropic/hh-rlhf",
    obtain="the hub has it without registration",
    labels=("rejected",),
    mapping="`rejected`: 1 for the reply that people judged the more harmful of two, 0 for the other.",
    columns={"chosen": ("chosen",), "rejected": ("rejected",)},
    comments=comments,
    hub="Anthropic/hh-rlhf",
    revision="09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    hub_folder="harmless-base",
    local={
        "train": ("train.jsonl", "harmless-base/train.jsonl"),
        "test": ("test.jsonl", "harmless-base/test.jsonl", "hh_harmless_base_test.parquet"),
    },
)

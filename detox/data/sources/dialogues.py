"""Dialogues as texts to learn language from, without labels; cleaning joins their lines.

SAMSum (Gliwa et al. 2019, arXiv:1911.12237), DialogSum (Chen et al. 2021, arXiv:2105.06762), and the chosen dialogues
of hh-rlhf, of which the source `hh_rlhf` has the last turns. Summaries are left out: they say again what is said.
"""

from __future__ import annotations

from dataclasses import replace

from detox.data.sources import hh_rlhf
from detox.data.sources.source import Source, plain_comments

UNLABELLED = "There are no labels: a row is a whole dialogue."

SAMSUM = Source(
    name="samsum",
    title="SAMSum: messenger-like dialogues written by linguists",
    licence="CC BY-NC-ND 4.0",
    homepage="https://huggingface.co/datasets/knkarthick/samsum",
    obtain="the hub has it without registration",
    labels=(),
    mapping=UNLABELLED,
    columns={"dialogue": ("dialogue",)},
    comments=plain_comments("dialogue", ()),
    hub="knkarthick/samsum",
    local={"train": ("train.csv",), "validation": ("validation.csv",), "test": ("test.csv",)},
)

DIALOGSUM = Source(
    name="dialogsum",
    title="DialogSum: spoken dialogues of everyday life",
    licence="CC BY-NC-SA 4.0",
    homepage="https://github.com/cylnlp/dialogsum",
    obtain="run `git clone https://github.com/cylnlp/dialogsum` and give its folder DialogSum_Data",
    labels=(),
    mapping=UNLABELLED,
    columns={"dialogue": ("dialogue",)},
    comments=plain_comments("dialogue", ()),
    local={
        "train": ("dialogsum.train.jsonl",),
        "validation": ("dialogsum.dev.jsonl", "dialogsum_dev.parquet"),
        "test": ("dialogsum.test.jsonl",),
    },
)

HH_DIALOGUES = replace(
    hh_rlhf.SOURCE,
    name="hh_dialogues",
    title="Anthropic hh-rlhf, harmless-base: whole dialogues",
    labels=(),
    mapping=f"{UNLABELLED} Of each two the chosen one: they differ in the last turn only.",
    columns={"chosen": ("chosen",)},
    comments=plain_comments("chosen", ()),
)

SOURCES: tuple[Source, ...] = (SAMSUM, DIALOGSUM, HH_DIALOGUES)

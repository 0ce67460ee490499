"""Sources of examples by name: licence, revision, columns, how to get them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detox.data.examples.example import Turn
from detox.data.sources import SOURCES
from detox.data.sources.source import Columns, Comment, Source

CHOSEN, REJECTED = "chosen", "rejected"
"""An example travels as a `Comment`: its prompt as the text, the responses beside it."""
SUMMARISE = "Summarize the following conversation.\n\n{dialogue}\n\nSummary: "
"""FLAN's own template of the task (Wei et al. 2022; `samsum` in google-research/FLAN)."""
_TURN = re.compile(r"\n\n(Human|Assistant):[ \t]*")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def _preferences(record: Columns) -> Iterator[Comment]:
    """Both dialogues agree up to the last turn, which is the response; where they do not there is no pair."""
    prompt, chosen = _last_turn(record["chosen"])
    other, rejected = _last_turn(record["rejected"])
    yield Comment(prompt if prompt == other else None, {CHOSEN: chosen, REJECTED: rejected})


def _last_turn(dialogue: Any) -> tuple[tuple[Turn, ...] | None, Any]:
    """The dialogue before its last turn, and that one; None for what is no dialogue that ends with an answer."""
    if not isinstance(dialogue, str):
        return None, dialogue
    _, *found = _TURN.split(dialogue)
    turns = [Turn(_ROLES[name], text.strip()) for name, text in zip(found[::2], found[1::2], strict=True)]
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-2].role != "user":
        return None, dialogue
    return tuple(turns[:-1]), turns[-1].text


def _continuations(record: Columns) -> Iterator[Comment]:
    halves = [record[name] for name in ("prompt", "continuation")]
    prompt, continuation = (half.get("text") if isinstance(half, dict) else half for half in halves)
    yield Comment(prompt, {CHOSEN: continuation})


def _summaries(record: Columns) -> Iterator[Comment]:
    dialogue = record["dialogue"]
    prompt = SUMMARISE.format(dialogue=dialogue) if isinstance(dialogue, str) and dialogue.strip() else None
    yield Comment(prompt, {CHOSEN: record["summary"]})


def _source(name: str, **facts: Any) -> Source:
    return Source(name=name, labels=(CHOSEN, REJECTED), **facts)


_HH, _RTP = SOURCES["hh_rlhf"], SOURCES["real_toxicity_prompts"]

EXAMPLE_SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _source(
            "hh_rlhf",
            title=_HH.title,
            licence=_HH.licence,
            homepage=_HH.homepage,
            obtain=_HH.obtain,
            mapping="The dialogue up to its last turn is the prompt; people chose one last turn and rejected another.",
            columns=_HH.columns,
            comments=_preferences,
            hub=_HH.hub,
            revision=_HH.revision,
            hub_folder=_HH.hub_folder,
            local=_HH.local,
        ),
        _source(
            "real_toxicity_prompts",
            title=_RTP.title,
            licence=_RTP.licence,
            homepage=_RTP.homepage,
            obtain=_RTP.obtain,
            mapping="The first half of a sentence is the prompt, the second the response.",
            columns={half: (half,) for half in ("prompt", "continuation")},
            comments=_continuations,
            hub=_RTP.hub,
            revision=_RTP.revision,
            local=_RTP.local,
        ),
        _source(
            "samsum",
            title="SAMSum (Gliwa et al. 2019, arXiv:1911.12237)",
            licence="CC BY-NC-ND 4.0",
            homepage="https://huggingface.co/datasets/knkarthick/samsum",
            obtain="the hub has it",
            mapping="The dialogue, asked to be summarised, is the prompt; the summary by people is the response.",
            columns={"dialogue": ("dialogue",), "summary": ("summary",)},
            comments=_summaries,
            hub="knkarthick/samsum",
            local={"train": ("train.csv", "train.jsonl"), "validation": ("validation.csv",), "test": ("test.csv",)},
        ),
        _source(
            "dialogsum",
            title="DialogSum (Chen et al. 2021, arXiv:2105.06762)",
            licence="CC BY-NC-SA 4.0",
            homepage="https://github.com/cylnlp/dialogsum",
            obtain="the hub has it; or take DialogSum_Data/ of https://github.com/cylnlp/dialogsum",
            mapping="The dialogue, asked to be summarised, is the prompt; the summary by people is the response.",
            columns={"dialogue": ("dialogue",), "summary": ("summary", "summary1")},
            comments=_summaries,
            hub="knkarthick/dialogsum",
            local={
                "train": ("dialogsum.train.jsonl", "train.csv"),
                "validation": ("dialogsum.dev.jsonl", "validation.csv", "dialogsum_dev.parquet"),
                "test": ("dialogsum.test.jsonl", "test.csv"),
            },
        ),
    )
}

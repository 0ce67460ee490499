"""RealToxicityPrompts (Gehman et al. 2020, arXiv:2009.11462): web sentences cut in half, with Perspective scores.

A record gives two comments, its prompt and its continuation, each with the eight scores that Perspective gave to that
half: no score of the whole sentence was published.
"""

from __future__ import annotations

from collections.abc import Iterator

from detox.data.sources.source import Columns, Comment, Source

LABELS: tuple[str, ...] = (
    "toxicity",
    "severe_toxicity",
    "profanity",
    "insult",
    "threat",
    "identity_attack",
    "flirtation",
    "sexually_explicit",
)
HALVES: tuple[str, ...] = ("prompt", "continuation")


def comments(record: Columns) -> Iterator[Comment]:
    for half in HALVES:
        value = record[half]
        if isinstance(value, dict):
            yield Comment(value.get("text"), {label: value.get(label) for label in LABELS})
        else:
            yield Comment(value, {label: record[f"{half}_{label}"] for label in LABELS})


_FLAT = tuple(f"{half}_{label}" for half in HALVES for label in LABELS)

SOURCE = Source(
    name="real_toxicity_prompts",
    title="RealToxicityPrompts",
    licence="Apache-2.0",
    homepage="https://huggingface.co/datasets/allenai/real-toxicity-prompts",
    obtain="the hub has it without registration",
    labels=LABELS,
    mapping="Perspective's probabilities of prompt and continuation apart, as they are; null is missing.",
    columns={half: (half,) for half in HALVES} | {name: (name,) for name in _FLAT},
    comments=comments,
    optional=_FLAT,  # in the original the scores are inside `prompt` and `continuation`; a flat copy has columns
    hub="allenai/real-toxicity-prompts",
    revision="f21629712ffd6a3d13a54fd2807ccd521c55ef74",
    local={"train": ("prompts.jsonl", "rtp_*.parquet")},
)

"""CONDA (Weld et al. 2021, arXiv:2106.06213): Dota 2 chat with the intent of each utterance.

Intents: E explicit toxicity, I implicit toxicity, A action, O other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

INTENTS: dict[str, tuple[str, ...]] = {"toxic": ("E", "I"), "explicit": ("E",), "implicit": ("I",)}
KNOWN_INTENTS = frozenset("EIAO")


def comments(record: Columns) -> Iterator[Comment]:
    intent = record["intentClass"]
    labels = {label: _label(intent, toxic) for label, toxic in INTENTS.items()}
    yield Comment(record["utterance"], labels, record["split"])


def _label(intent: Any, toxic: tuple[str, ...]) -> Any:
    """0 or 1; missing without an intent (the test part); an unknown intent as it stands, to be refused."""
    if intent in (None, ""):
        return None
    return float(intent in toxic) if intent in KNOWN_INTENTS else intent


SOURCE = Source(
    name="conda",
    title="CONDA: CONtextual Dual-Annotated Dota 2 chat",
    licence="AFL-3.0",
    homepage="https://github.com/usydnlp/CONDA",
    obtain="run `git clone https://github.com/usydnlp/CONDA` and give its folder data",
    labels=tuple(INTENTS),
    mapping=(
        "`toxic`: intentClass E or I; `explicit`: E; `implicit`: I; 0 for A and O. The test part is published without "
        "labels: missing. `[SEPA]` between the lines of an utterance is left as it is."
    ),
    columns={"utterance": ("utterance", "text"), "intentClass": ("intentClass",), "split": ("split",)},
    comments=comments,
    optional=("intentClass", "split"),
    revision="2185d84b0f5db06ef67d700ba982d213d8dc9d41",
    local={
        "train": ("CONDA_train.csv", "conda.parquet"),
        "validation": ("CONDA_valid.csv",),
        "test": ("CONDA_test.csv",),
    },
)

"""What labels mean: our models' own names for them, and the names that the vendors' APIs have.

A label that a model was not trained on is absent everywhere; nothing is derived from another label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

LabelKind = Literal[
    "toxicity", "severe_toxicity", "identity_attack", "insult", "profanity", "threat", "sexually_explicit"
]

KINDS: dict[str, LabelKind] = {
    "toxicity": "toxicity",
    "toxic": "toxicity",
    "severe_toxicity": "severe_toxicity",
    "severe_toxic": "severe_toxicity",
    "identity_attack": "identity_attack",
    "identity_hate": "identity_attack",
    "insult": "insult",
    "profanity": "profanity",
    "obscene": "profanity",
    "threat": "threat",
    "sexually_explicit": "sexually_explicit",
    "sexual_explicit": "sexually_explicit",
}
"""What the labels of Jigsaw 2018, of unintended bias / Civil Comments and of Detoxify stand for."""

PERSPECTIVE: dict[str, LabelKind] = {
    "TOXICITY": "toxicity",
    "SEVERE_TOXICITY": "severe_toxicity",
    "IDENTITY_ATTACK": "identity_attack",
    "INSULT": "insult",
    "PROFANITY": "profanity",
    "THREAT": "threat",
    "SEXUALLY_EXPLICIT": "sexually_explicit",
    "OBSCENE": "profanity",
}
"""Perspective's attributes that one of our kinds can back."""


def kinds_of(labels: Sequence[str]) -> dict[LabelKind, str]:
    """The label that backs each kind; labels that stand for none of them are left out.

    A share of annotators (`frac_insult`) stands for what they were asked about.
    """
    found: dict[LabelKind, str] = {}
    for label in labels:
        kind = KINDS.get(label.casefold().replace("-", "_").removeprefix("frac_"))
        if kind is not None:
            found.setdefault(kind, label)
    return found


def perspective_labels(labels: Sequence[str]) -> dict[str, str]:
    """Our label behind each of Perspective's attributes that we can answer."""
    known = kinds_of(labels)
    return {attribute: known[kind] for attribute, kind in PERSPECTIVE.items() if kind in known}

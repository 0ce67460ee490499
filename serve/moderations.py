"""OpenAI's `POST /v1/moderations`, for clients that change `base_url` (or OPENAI_BASE_URL).

A result has all thirteen categories, since typed clients fail on a missing one. Those that no label of the model backs
are false and 0, and named: in `/info`, and in the header `x-unjudged-categories` of each answer. The scores of our own
labels stand beside them as `toxicity_scores`, which clients that do not know the field ignore.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serve.attributes import LabelKind, kinds_of
from serve.errors import ApiError, validated
from serve.judge import Judge, Model
from serve.limits import MOST_INPUTS, ListOf
from serve.openai_messages import ImagePart, Part, TextPart, text_of_parts

CATEGORIES: dict[str, tuple[tuple[LabelKind, ...], ...]] = {
    "harassment": (("toxicity", "insult"),),
    "harassment/threatening": (("threat",),),
    "hate": (("identity_attack",),),
    "hate/threatening": (("identity_attack",), ("threat",)),
    "illicit": (),
    "illicit/violent": (),
    "self-harm": (),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": (("sexually_explicit",),),
    "sexual/minors": (),
    "violence": (("threat",),),
    "violence/graphic": (),
}
"""OpenAI's categories with the kinds of label behind them: of each set the highest score counts, and of several sets,
which are things that a text must be at once, the lowest."""


class ModerationRequest(BaseModel):
    """What the client sends; `model` is accepted and ignored, since one model is served."""

    model_config = ConfigDict(extra="ignore", strict=True)
    input: str | ListOf[str] | ListOf[Part]
    model: str | None = None


class Moderation(BaseModel):
    """What is said of one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]
    toxicity_scores: dict[str, float] = Field(description="Not OpenAI's: the labels of the model.")


class ModerationResponse(BaseModel):
    id: str
    model: str
    results: list[Moderation]


async def moderate(body: bytes, judge: Judge) -> dict[str, Any]:
    """The answer: a result a text; several typed parts are one text, a line each.

    Raises:
        ApiError: a body of the wrong shape, no text, too many of them, or an image.
    """
    request = validated(ModerationRequest, body, _refusal)
    scored = await judge.scores(_texts(request.input))
    return {
        "id": f"modr-{uuid4().hex}",
        "model": scored.model.name,
        "results": [result(scores_L, scored.model) for scores_L in scored.values_NL],
    }


def _refusal(place: str, fault: Mapping[str, Any]) -> ApiError:
    param = place.partition(".")[0] or "input"
    return ApiError("invalid", f"Invalid value for '{param}': {fault['msg']}.", param=param)


def _texts(given: str | Sequence[str] | Sequence[TextPart | ImagePart]) -> list[str]:
    if not given and not isinstance(given, str):
        raise ApiError("invalid", "'input' must not be empty: give a text, or a list of texts.", param="input")
    if not isinstance(given, str) and len(given) > MOST_INPUTS:
        message = f"'input' must have at most {MOST_INPUTS} texts, has {len(given)}."
        raise ApiError("invalid", message, param="input")
    if isinstance(given, str) or not isinstance(given[0], str):
        return [text_of_parts(given, "input")]  # type: ignore[arg-type]  # parts are all of one kind
    return [text_of_parts(str(text), "input") for text in given]


def result(scores_L: np.ndarray, model: Model) -> dict[str, Any]:
    """What is said of one text: a category is flagged where a label behind it reaches its threshold."""
    own = dict(zip(model.labels, scores_L.tolist(), strict=True))
    backed = backing(model.labels)
    values: dict[str, float] = {}
    hits: dict[str, bool] = {}
    for category, label_sets in backed.items():
        values[category] = _over(label_sets, own)
        hits[category] = bool(label_sets) and all(
            any(own[label] >= model.thresholds[label] for label in labels) for labels in label_sets
        )
    return {
        "flagged": any(hits.values()),
        "categories": hits,
        "category_scores": values,
        "category_applied_input_types": {category: ["text"] if sets else [] for category, sets in backed.items()},
        "toxicity_scores": own,
    }


def backing(labels: Sequence[str]) -> dict[str, list[list[str]]]:
    """The labels behind each category: the lowest over the sets of the highest within each; empty: not judged."""
    known = kinds_of(labels)
    found: dict[str, list[list[str]]] = {}
    for category, sets in CATEGORIES.items():
        backed = [[known[kind] for kind in kinds if kind in known] for kinds in sets]
        found[category] = backed if all(backed) else []
    return found


def unjudged(labels: Sequence[str]) -> list[str]:
    """Categories that no label backs."""
    return [category for category, label_sets in backing(labels).items() if not label_sets]


def _over(label_sets: Sequence[Sequence[str]], own: Mapping[str, float]) -> float:
    return min((max(own[label] for label in labels) for labels in label_sets), default=0.0)

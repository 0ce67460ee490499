"""OpenAI's `POST /v1/moderations`, for clients that change `base_url` (or OPENAI_BASE_URL).

A result has all thirteen categories, since typed clients fail on a missing one. Those that no label of the model backs
are false and 0, and named: in `/info`, and in the header `x-unjudged-categories` of each answer. The scores of our own
labels stand beside them as `toxicity_scores`, which clients that do not know the field ignore.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serve.attributes import Kind, kinds_of
from serve.errors import STATUS, ApiError, first_fault
from serve.errors import Kind as Fault
from serve.judge import Judge, Model
from serve.limits import check_text

CATEGORIES: dict[str, tuple[Kind, ...]] = {
    "harassment": ("toxicity", "insult"),
    "harassment/threatening": ("threat",),
    "hate": ("identity_attack",),
    "hate/threatening": (),
    "illicit": (),
    "illicit/violent": (),
    "self-harm": (),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": ("sexually_explicit",),
    "sexual/minors": (),
    "violence": ("threat",),
    "violence/graphic": (),
}
"""OpenAI's categories with the kinds of label that back them; of several the highest score counts."""
BOTH: dict[str, tuple[Kind, Kind]] = {"hate/threatening": ("identity_attack", "threat")}
"""Categories that are two things at once: the lower score counts."""

MOST_INPUTS = 256
"""Texts a request."""


class TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["image_url"]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ModerationRequest(BaseModel):
    """What the client sends; `model` is taken and not heeded, since one model is served."""

    model_config = ConfigDict(extra="ignore", strict=True)
    input: str | list[str] | list[Part]
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


_REQUEST = TypeAdapter(ModerationRequest)


async def moderate(body: bytes, judge: Judge) -> dict[str, Any]:
    """The answer: a result a text; several typed parts are one text, a line each.

    Raises:
        ApiError: a body of the wrong shape, no text, too many of them, or an image.
    """
    try:
        request = _REQUEST.validate_json(body)
    except ValidationError as error:
        place, fault = first_fault(error)
        param = place.partition(".")[0] or "input"
        raise ApiError("invalid", f"Invalid value for '{param}': {fault['msg']}.", param=param) from None
    scored = await judge.scores(_texts(request.input))
    return {
        "id": f"modr-{uuid4().hex}",
        "model": scored.model.name,
        "results": [result(scores_L, scored.model) for scores_L in scored.values_NL],
    }


def _texts(given: str | Sequence[str] | Sequence[TextPart | ImagePart]) -> list[str]:
    texts = _plain(given)
    for text in texts:
        check_text(text, "input")
    return texts


def _plain(given: str | Sequence[str] | Sequence[TextPart | ImagePart]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise ApiError("invalid", "'input' must not be empty: give a text, or a list of texts.", param="input")
    if len(given) > MOST_INPUTS:
        raise ApiError("invalid", f"'input' may have {MOST_INPUTS} texts, has {len(given)}.", param="input")
    if isinstance(given[0], str):
        return [str(text) for text in given]
    if any(isinstance(part, ImagePart) for part in given):
        raise ApiError("invalid", "Images are not judged here: 'input' must be text.", param="input")
    return ["\n".join(part.text for part in given if isinstance(part, TextPart))]


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
    for category, kinds in CATEGORIES.items():
        if category in BOTH:
            pair = BOTH[category]
            found[category] = [[known[kind]] for kind in pair] if all(kind in known for kind in pair) else []
        else:
            backed = [known[kind] for kind in kinds if kind in known]
            found[category] = [backed] if backed else []
    return found


def unjudged(labels: Sequence[str]) -> list[str]:
    """Categories that no label backs."""
    return [category for category, label_sets in backing(labels).items() if not label_sets]


def _over(label_sets: Sequence[Sequence[str]], own: Mapping[str, float]) -> float:
    return min((max(own[label] for label in labels) for labels in label_sets), default=0.0)


TYPES: dict[Fault, str] = {
    "rate_limited": "requests",
    "overloaded": "server_error",
    "internal": "server_error",
}
CODES: dict[Fault, str] = {"bad_key": "invalid_api_key", "rate_limited": "rate_limit_exceeded"}


def status_and_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error, as OpenAI answers."""
    body = {
        "message": error.message,
        "type": TYPES.get(error.kind, "invalid_request_error"),
        "param": error.param or None,
        "code": error.detail.get("code", CODES.get(error.kind)),
    }
    return STATUS[error.kind], {"error": body}

"""The service's own API: `/v1/classify`, `/v1/detoxify`, `/v1/explain`.

Every answer carries the model's version and a decision id, by which a moderation log can name what decided. One text
gives one result, a list gives a list; results are always a list.

Shapes: N texts, L labels.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from detox.data.language_code import code_of
from detox.rewriter.rerank import How, Rewrite
from serve.errors import STATUS, ApiError, first_fault
from serve.judge import Judge, Model
from serve.keys import Bands
from serve.limits import MOST_CHARACTERS
from serve.rewriting import Rewriting

MOST_INPUTS = 256
"""Texts a request."""
MOST_EXPLAINED, MOST_EXPLAINED_INPUTS = 5_000, 8
"""Characters of a text to be explained, which costs as much as scoring a hundred, and such texts a request."""

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]
Action = Literal["allow", "review", "block"]


class Request(BaseModel):
    """Unknown fields are refused: a misspelt one would be silently without effect."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ClassifyRequest(Request):
    input: Texts = Field(description="A text, or up to 256 of them.", examples=["you are an idiot"])


class DetoxifyRequest(Request):
    input: Texts = Field(description="A text, or up to 256 of them.", examples=["you are an idiot, read page 12"])
    lang: str | list[str] | None = Field(
        None, description="ISO 639-1 code of all texts, or of each; absent: detected.", examples=["en"]
    )
    adapter: str = Field("", description="A further rewriter by its name; empty: the model itself.")
    stream: bool = Field(False, description="One text: server-sent events, a sentence each, once it is reranked.")


ExplainedText = Annotated[str, Field(max_length=MOST_EXPLAINED)]
ExplainedTexts = ExplainedText | Annotated[list[ExplainedText], Field(min_length=1, max_length=MOST_EXPLAINED_INPUTS)]


class ExplainRequest(Request):
    input: ExplainedTexts = Field(description="A text, or up to 8 of them.", examples=["you are an idiot"])
    label: str = Field("", description="Empty: the label with the highest score.")
    method: Literal["integrated_gradients", "shap", "attention"] = "integrated_gradients"


class Served(BaseModel):
    """Which model answered."""

    name: str
    version: str


class Classified(BaseModel):
    probabilities: dict[str, float] = Field(description="By label, 0..1, calibrated.")
    flags: list[str] = Field(description="Labels whose probability reaches their threshold.")
    severity: float = Field(description="The highest score over its threshold: 0.5 is the threshold, 1 is certainty.")
    action: Action = Field(description="By the bands of the service, or of the key.")


class ClassifyResponse(BaseModel):
    decision: str = Field(description="Names this answer, for your log.")
    model: Served
    results: list[Classified]


class Detoxified(BaseModel):
    text: str
    how: How
    changed: bool
    toxicity_before: float
    toxicity_after: float
    similarity: float


class DetoxifyResponse(BaseModel):
    decision: str
    model: Served
    results: list[Detoxified]


class Span(BaseModel):
    begin: int = Field(description="In characters (Unicode code points) of the text as given.")
    end: int
    text: str
    weight: float = Field(description="Above 0: speaks for the label.")


class Explained(BaseModel):
    label: str
    method: str
    probability: float
    unit: str = Field(description="What a weight means.")
    spans: list[Span]


class ExplainResponse(BaseModel):
    decision: str
    model: Served
    results: list[Explained]


RequestT = TypeVar("RequestT", bound=Request)
_ADAPTERS: dict[type[Request], TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (ClassifyRequest, DetoxifyRequest, ExplainRequest)
}


def parsed(kind: type[RequestT], body: bytes) -> RequestT:
    """Raises:
    ApiError: not JSON, an unknown field, a value of the wrong type or size.
    """
    try:
        found: RequestT = _ADAPTERS[kind].validate_json(body)
    except ValidationError as error:
        place, fault = first_fault(error)
        too_long = fault["type"] in {"string_too_long", "too_long"}
        message = f"{place}: {fault['msg']}" if place else str(fault["msg"])
        raise ApiError("too_large" if too_long else "invalid", message, param=place) from None
    return found


def listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def decision() -> str:
    return f"dec-{uuid4().hex}"


async def classify(request: ClassifyRequest, judge: Judge, bands: Bands) -> dict[str, Any]:
    """`/v1/classify`: the answer, as `ClassifyResponse` describes it."""
    scored = await judge.scores(listed(request.input))
    results = [classified(scores_L, scored.model, bands) for scores_L in scored.values_NL]
    served = {"name": scored.model.name, "version": scored.model.version}
    return {"decision": decision(), "model": served, "results": results}


def classified(scores_L: np.ndarray, model: Model, bands: Bands) -> dict[str, Any]:
    """What is said of one text."""
    probabilities = dict(zip(model.labels, scores_L.tolist(), strict=True))
    worst = max(severity(value, model.thresholds[label]) for label, value in probabilities.items())
    return {
        "probabilities": probabilities,
        "flags": [label for label, value in probabilities.items() if value >= model.thresholds[label]],
        "severity": worst,
        "action": action(worst, bands),
    }


def severity(probability: float, threshold: float) -> float:
    """How far a score is on its way to the threshold (0..0.5), or from there to certainty (0.5..1)."""
    if probability < threshold:
        return 0.5 * probability / threshold
    return 1.0 if threshold >= 1 else 0.5 + 0.5 * (probability - threshold) / (1 - threshold)


def action(worst: float, bands: Bands) -> Action:
    return "block" if worst >= bands.block else "review" if worst >= bands.review else "allow"


async def detoxify(request: DetoxifyRequest, rewriting: Rewriting) -> dict[str, Any]:
    """`/v1/detoxify`: the answer, as `DetoxifyResponse` describes it.

    Raises:
        ApiError: not as many languages as texts.
    """
    texts = listed(request.input)
    rewrites = await rewriting.rewrite(texts, languages(request.lang, len(texts)), request.adapter)
    return {
        "decision": decision(),
        "model": rewriting.model.served(request.adapter),
        "results": [detoxified(text, rewrite) for text, rewrite in zip(texts, rewrites, strict=True)],
    }


async def detoxify_by_sentence(request: DetoxifyRequest, rewriting: Rewriting, named: str) -> AsyncIterator[bytes]:
    """Server-sent events: `{"decision", "model"}` first, then a sentence each, at last `[DONE]`.

    Args:
        named: the decision's id.

    Raises:
        ApiError: several texts.
    """
    texts = listed(request.input)
    if len(texts) != 1:
        raise ApiError("invalid", f"stream: one text can be streamed, were {len(texts)}", param="stream")
    [lang] = languages(request.lang, 1)
    yield event({"decision": named, "model": rewriting.model.served(request.adapter)})
    async for rewrite in rewriting.by_sentence(texts[0], lang, request.adapter):
        yield event(rewrite._asdict())
    yield b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def languages(given: str | Sequence[str] | None, count: int) -> list[str]:
    """A code for each text; empty: to be detected.

    Raises:
        ApiError: not as many as texts, or one that is no code.
    """
    codes = [given or ""] * count if given is None or isinstance(given, str) else list(given)
    if len(codes) != count:
        raise ApiError("invalid", f"lang: there must be one for each of {count} texts, were {len(codes)}", param="lang")
    try:
        return [code_of(code) for code in codes]
    except ValueError as error:
        raise ApiError("invalid", f"lang: {error}", param="lang") from None


def detoxified(text: str, rewrite: Rewrite) -> dict[str, Any]:
    return rewrite._asdict() | {"changed": rewrite.text != text}


def status_and_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error."""
    body = {"type": error.kind, "message": error.message, "param": error.param or None}
    return STATUS[error.kind], {"error": body}

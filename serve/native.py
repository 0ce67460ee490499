"""The service's own API: `/v1/classify`, `/v1/detoxify`, `/v1/explain`.

Every answer carries the model's version and a decision id, by which a moderation log can name what decided. One text
gives one result, a list gives a list; results are always a list.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from detox.data.language_code import code_of
from detox.rewriter.rerank import How, Rewrite
from serve.errors import STATUS, ApiError, RequestT, replaced, validated
from serve.events import DONE, event
from serve.judge import Judge, Model
from serve.limits import MOST_CHARACTERS, MOST_EXPLAINED, MOST_EXPLAINED_INPUTS, MOST_INPUTS, ListOf
from serve.rewriting import Rewriting, by_sentence
from serve.settings import Bands

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Texts = Text | Annotated[ListOf[Text], Field(min_length=1, max_length=MOST_INPUTS)]
ExplainedText = Annotated[str, Field(max_length=MOST_EXPLAINED)]
ExplainedTexts = ExplainedText | Annotated[ListOf[ExplainedText], Field(min_length=1, max_length=MOST_EXPLAINED_INPUTS)]
Action = Literal["allow", "review", "block"]
UP_TO = "A text, or up to {} of them."


class StrictRequest(BaseModel):
    """Unknown fields are refused: a misspelt one would be silently without effect."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ClassifyRequest(StrictRequest):
    input: Texts = Field(description=UP_TO.format(MOST_INPUTS), examples=["you are an idiot"])


class DetoxifyRequest(StrictRequest):
    input: Texts = Field(description=UP_TO.format(MOST_INPUTS), examples=["you are an idiot, read page 12"])
    lang: str | Annotated[ListOf[str], Field(max_length=MOST_INPUTS)] | None = Field(
        None, description="ISO 639-1 code of all texts, or of each; absent: detected.", examples=["en"]
    )
    adapter: str = Field("", description="A further rewriter by its name; empty: the model itself.")
    stream: bool = Field(False, description="One text: server-sent events, a sentence each, once it is reranked.")


class ExplainRequest(StrictRequest):
    input: ExplainedTexts = Field(description=UP_TO.format(MOST_EXPLAINED_INPUTS), examples=["you are an idiot"])
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


def parsed(kind: type[RequestT], body: bytes) -> RequestT:
    """Raises:
    ApiError: not JSON, an unknown field, a value of the wrong type or size.
    """
    return validated(kind, body, _refusal)


def _refusal(place: str, fault: Mapping[str, Any]) -> ApiError:
    too_long = fault["type"] in {"string_too_long", "too_long"}
    message = f"{place}: {fault['msg']}" if place else str(fault["msg"])
    return ApiError("too_large" if too_long else "invalid", message, param=place)


def listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def decision_id() -> str:
    return f"dec-{uuid4().hex}"


async def classify(request: ClassifyRequest, judge: Judge, bands: Bands) -> dict[str, Any]:
    """`/v1/classify`: the answer, as `ClassifyResponse` describes it."""
    scored = await judge.scores(listed(request.input))
    results = [classified(scores_L, scored.model, bands) for scores_L in scored.values_NL]
    return {"decision": decision_id(), "model": served(scored.model), "results": results}


def served(model: Model) -> dict[str, str]:
    return {"name": model.name, "version": model.version}


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


async def explain(request: ExplainRequest, judge: Judge) -> dict[str, Any]:
    """`/v1/explain`: the answer, as `ExplainResponse` describes it.

    Raises:
        ApiError: no such label, or the texts were explained by two versions.
    """
    if request.label and request.label not in judge.model.labels:
        known = ", ".join(judge.model.labels)
        raise ApiError("invalid", f"label: there is no {request.label!r}; choose one of {known}", param="label")
    found = [await judge.explain(text, request.label, request.method) for text in listed(request.input)]
    model = found[0][0]
    if any(other.version != model.version for other, _ in found):
        raise replaced()
    results = [{field: explanation[field] for field in Explained.model_fields} for _, explanation in found]
    return {"decision": decision_id(), "model": served(model), "results": results}


def check_adapter(request: DetoxifyRequest, rewriting: Rewriting) -> None:
    """Raises:
    ApiError: an adapter that there is not.
    """
    if request.adapter and request.adapter not in rewriting.model.adapters:
        known = ", ".join(rewriting.model.adapters) or "none"
        message = f"adapter: there is no {request.adapter!r}; there are: {known}"
        raise ApiError("not_found", message, param="adapter")


async def detoxify(request: DetoxifyRequest, rewriting: Rewriting) -> dict[str, Any]:
    """`/v1/detoxify`: the answer, as `DetoxifyResponse` describes it.

    Raises:
        ApiError: no such adapter, or not as many languages as texts.
    """
    check_adapter(request, rewriting)
    texts = listed(request.input)
    model, rewrites = await rewriting.rewrite(texts, languages(request.lang, len(texts)), request.adapter)
    return {
        "decision": decision_id(),
        "model": model.served(request.adapter),
        "results": [detoxified(text, rewrite) for text, rewrite in zip(texts, rewrites, strict=True)],
    }


async def detoxify_by_sentence(request: DetoxifyRequest, rewriting: Rewriting, decision: str) -> AsyncGenerator[bytes]:
    """Server-sent events: `{"decision", "model"}` with the first sentence's model, then a sentence each, at last
    `[DONE]`.

    Raises:
        ApiError: no such adapter, or several texts.
    """
    check_adapter(request, rewriting)
    texts = listed(request.input)
    if len(texts) != 1:
        raise ApiError("invalid", f"stream: only one text can be streamed, got {len(texts)}", param="stream")
    [lang] = languages(request.lang, 1)
    is_first = True
    async for model, rewrite in by_sentence(rewriting, texts[0], lang, request.adapter):
        if is_first:
            yield event({"decision": decision, "model": model.served(request.adapter)})
            is_first = False
        yield event(rewrite._asdict())
    yield DONE


def languages(given: str | Sequence[str] | None, count: int) -> list[str]:
    """A code for each text; empty: to be detected.

    Raises:
        ApiError: not as many as texts, or one that is no code.
    """
    codes = [given or ""] * count if given is None or isinstance(given, str) else list(given)
    if len(codes) != count:
        raise ApiError("invalid", f"lang: {count} texts need one each, or one for all, got {len(codes)}", param="lang")
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

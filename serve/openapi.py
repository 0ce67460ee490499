"""The OpenAPI document of the service, with an example a path."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve import native
from serve.chat import ChatRequest, ChatResponse
from serve.moderations import ModerationRequest, ModerationResponse
from serve.perspective_messages import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
)
from serve.tei import PredictRequest, PredictResponse


class Described(NamedTuple):
    """A path of the service."""

    path: str
    summary: str
    request: type[BaseModel]
    response: type[BaseModel]
    example: dict[str, Any]
    """A request."""


_TEXT = "You are an idiot, read page 12."
PATHS: tuple[Described, ...] = (
    Described(
        "/v1/classify", "Scores, flags and an action.", native.ClassifyRequest, native.ClassifyResponse,
        {"input": [_TEXT, "Thank you for the page."]},
    ),
    Described(
        "/v1/detoxify", "Neutral rewrites.", native.DetoxifyRequest, native.DetoxifyResponse,
        {"input": _TEXT, "lang": "en"},
    ),
    Described(
        "/v1/explain", "The words behind a score.", native.ExplainRequest, native.ExplainResponse,
        {"input": _TEXT, "method": "integrated_gradients"},
    ),
    Described(
        "/v1alpha1/comments:analyze", "Perspective.", AnalyzeCommentRequest, AnalyzeCommentResponse,
        {"comment": {"text": _TEXT}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True},
    ),
    Described(
        "/v1alpha1/comments:suggestscore", "Perspective: scores that people think right.",
        SuggestCommentScoreRequest, SuggestCommentScoreResponse,
        {"comment": {"text": _TEXT}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1.0}}}},
    ),
    Described(
        "/v1/moderations", "OpenAI moderations.", ModerationRequest, ModerationResponse,
        {"input": _TEXT, "model": "omni-moderation-latest"},
    ),
    Described(
        "/predict", "Text Embeddings Inference.", PredictRequest, PredictResponse,
        {"inputs": [[_TEXT], ["Thank you for the page."]]},
    ),
    Described(
        "/v1/chat/completions", "OpenAI chat completions: the rewriter.", ChatRequest, ChatResponse,
        {"messages": [{"role": "user", "content": _TEXT}]},
    ),
)  # fmt: skip
REFUSED = ("400", "401", "403", "404", "413", "422", "424", "429", "500", "503")
STREAMED = ("/v1/detoxify", "/v1/chat/completions")
EVENT = {
    "description": "Of each server-sent event; `data` is JSON, and `[DONE]` at last.",
    "type": "object",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}
HEADERS = {
    "x-decision-id": "Names this answer, for your log.",
    "x-model-version": "Twelve hexadecimal digits of the artifact that answered; absent where none was asked.",
}
SCHEMAS = "#/components/schemas/{model}"


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    models = {model for one in PATHS for model in (one.request, one.response)}
    _, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)], ref_template=SCHEMAS
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Toxicity lab",
            "version": "1",
            "description": "Scores of toxicity, explanations and rewrites; Perspective, OpenAI and TEI drop-ins.",
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}, {"query": []}],
        "paths": {one.path: {"post": _operation(one)} for one in PATHS},
    }


def _operation(one: Described) -> dict[str, Any]:
    refusals = {status: {"description": "Refused, in the words of the API."} for status in REFUSED}
    answered = {
        "description": "OK",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
        "content": {"application/json": {"schema": _ref(one.response)}},
    }
    if one.path in STREAMED:
        answered["content"]["text/event-stream"] = {"schema": EVENT}  # type: ignore[index]
    asked = {"application/json": {"schema": _ref(one.request), "example": one.example}}
    return {
        "summary": one.summary,
        "operationId": one.path.strip("/").replace("/", "_").replace(":", "_"),
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": answered, **refusals},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": SCHEMAS.format(model=model.__name__)}

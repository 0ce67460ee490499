"""The OpenAPI document of the service: its own paths in full, the vendors' by their request bodies."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve import native
from serve.chat import ChatRequest
from serve.moderations import ModerationRequest
from serve.perspective_messages import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
)
from serve.tei import PredictRequest


class Described(NamedTuple):
    """A path of the service."""

    path: str
    summary: str
    request: type[BaseModel]
    response: type[BaseModel] | None
    """None: as its vendor describes it."""


PATHS: tuple[Described, ...] = (
    Described("/v1/classify", "Scores, flags and an action.", native.ClassifyRequest, native.ClassifyResponse),
    Described("/v1/detoxify", "Neutral rewrites.", native.DetoxifyRequest, native.DetoxifyResponse),
    Described("/v1/explain", "The words behind a score.", native.ExplainRequest, native.ExplainResponse),
    Described("/v1alpha1/comments:analyze", "Perspective.", AnalyzeCommentRequest, AnalyzeCommentResponse),
    Described(
        "/v1alpha1/comments:suggestscore",
        "Perspective: scores that people think right.",
        SuggestCommentScoreRequest,
        SuggestCommentScoreResponse,
    ),
    Described("/v1/moderations", "OpenAI moderations.", ModerationRequest, None),
    Described("/predict", "Text Embeddings Inference.", PredictRequest, None),
    Described("/v1/chat/completions", "OpenAI chat completions: the rewriter.", ChatRequest, None),
)
REFUSED = ("400", "401", "403", "404", "413", "422", "429", "500", "503")
SCHEMAS = "#/components/schemas/{model}"


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    models = {model for one in PATHS for model in (one.request, one.response) if model is not None}
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
    answered: dict[str, Any] = {"type": ["object", "array"]} if one.response is None else _ref(one.response)
    refusals = {status: {"description": "Refused, in the words of the API."} for status in REFUSED}
    return {
        "summary": one.summary,
        "operationId": one.path.strip("/").replace("/", "_").replace(":", "_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(one.request)}}},
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answered}}}, **refusals},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": SCHEMAS.format(model=model.__name__)}

"""The OpenAPI document of the service, with an example of a request and its answer a path."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve import native
from serve.chat import ChatRequest, ChatResponse
from serve.keys import KEY_HEADERS
from serve.moderations import CATEGORIES, ModerationRequest, ModerationResponse
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
    answer: Any
    """A response to it."""


_TEXT, _DECISION = "You are an idiot, read page 12.", "dec-0f8d3c2b1a604f5e9d8c7b6a5f4e3d2c"
_SERVED = {"name": "forum", "version": "0a1b2c3d4e5f"}
_SCORE = {"value": 0.97, "type": "PROBABILITY"}
_REWRITE = {"how": "reranked", "toxicity_before": 0.97, "toxicity_after": 0.02, "similarity": 0.81}
_SPAN = {"begin": 11, "end": 16, "text": "idiot", "weight": 4.2}
PATHS: tuple[Described, ...] = (
    Described(
        "/v1/classify", "Scores, flags and an action.", native.ClassifyRequest, native.ClassifyResponse,
        {"input": _TEXT},
        {
            "decision": _DECISION,
            "model": _SERVED,
            "results": [
                {"probabilities": {"toxic": 0.97, "insult": 0.93}, "flags": ["toxic", "insult"], "severity": 0.97,
                 "action": "block"},
            ],
        },
    ),
    Described(
        "/v1/detoxify", "Neutral rewrites.", native.DetoxifyRequest, native.DetoxifyResponse,
        {"input": _TEXT, "lang": "en"},
        {"decision": _DECISION, "model": _SERVED, "results": [{"text": "Read page 12.", "changed": True, **_REWRITE}]},
    ),
    Described(
        "/v1/explain", "The words behind a score.", native.ExplainRequest, native.ExplainResponse,
        {"input": _TEXT, "method": "integrated_gradients"},
        {
            "decision": _DECISION,
            "model": _SERVED,
            "results": [
                {"label": "toxic", "method": "integrated_gradients", "probability": 0.97, "unit": "log-odds",
                 "spans": [_SPAN]},
            ],
        },
    ),
    Described(
        "/v1alpha1/comments:analyze", "Perspective.", AnalyzeCommentRequest, AnalyzeCommentResponse,
        {"comment": {"text": _TEXT}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True},
        {
            "attributeScores": {
                "TOXICITY": {"spanScores": [{"begin": 0, "end": 31, "score": _SCORE}], "summaryScore": _SCORE},
            },
            "languages": ["en"],
            "detectedLanguages": ["en"],
        },
    ),
    Described(
        "/v1alpha1/comments:suggestscore", "Perspective: scores that people think right.",
        SuggestCommentScoreRequest, SuggestCommentScoreResponse,
        {"comment": {"text": _TEXT}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1.0}}}},
        {"detectedLanguages": ["en"]},
    ),
    Described(
        "/v1/moderations", "OpenAI moderations.", ModerationRequest, ModerationResponse,
        {"input": _TEXT, "model": "omni-moderation-latest"},
        {
            "id": "modr-0f8d3c2b1a604f5e9d8c7b6a5f4e3d2c",
            "model": "forum",
            "results": [
                {"flagged": True, "categories": {name: name == "harassment" for name in CATEGORIES},
                 "category_scores": {name: 0.97 if name == "harassment" else 0.0 for name in CATEGORIES},
                 "category_applied_input_types": {
                     name: ["text"] if name == "harassment" else [] for name in CATEGORIES},
                 "toxicity_scores": {"toxic": 0.97, "insult": 0.93}},
            ],
        },
    ),
    Described(
        "/predict", "Text Embeddings Inference.", PredictRequest, PredictResponse,
        {"inputs": _TEXT},
        [{"score": 0.97, "label": "toxic"}, {"score": 0.93, "label": "insult"}],
    ),
    Described(
        "/v1/chat/completions", "OpenAI chat completions: the rewriter.", ChatRequest, ChatResponse,
        {"messages": [{"role": "user", "content": _TEXT}]},
        {
            "id": "chatcmpl-0f8d3c2b1a604f5e9d8c7b6a5f4e3d2c",
            "object": "chat.completion",
            "created": 1795300000,
            "model": "polite",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Read page 12.", "refusal": None},
                 "finish_reason": "stop", "logprobs": None},
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            "detox": _REWRITE,
        },
    ),
)  # fmt: skip
GETS = {
    "/health": "Whether it is up, and what is wrong with the file of keys.",
    "/info": "What is served: model, version, labels, thresholds, rewriter, limits; also what TEI says of a model.",
    "/v1/models": "OpenAI: the rewriter and its adapters.",
    "/$discovery/rest": "Perspective: what Google's clients read first.",
}
"""Answers without a key."""
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


@cache
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
                **{name: {"type": "apiKey", "in": "header", "name": name} for name in KEY_HEADERS[1:]},
                "query": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
        "security": [{}, {"bearer": []}, *({name: []} for name in KEY_HEADERS[1:]), {"query": []}],
        "paths": {one.path: {"post": _operation(one)} for one in PATHS}
        | {"/batch": {"post": _batch()}}
        | {path: {"get": _question(path, summary)} for path, summary in GETS.items()},
    }


def _operation(one: Described) -> dict[str, Any]:
    refusals = {status: {"description": "Refused, in the words of the API."} for status in REFUSED}
    answered = {
        "description": "OK",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
        "content": {"application/json": {"schema": _ref(one.response), "example": one.answer}},
    }
    if one.path in STREAMED:
        answered["content"]["text/event-stream"] = {"schema": EVENT}  # type: ignore[index]
    asked = {"application/json": {"schema": _ref(one.request), "example": one.example}}
    return {
        "summary": one.summary,
        "operationId": _id(one.path),
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": answered, **refusals},
    }


def _batch() -> dict[str, Any]:
    parts = {"multipart/mixed": {"schema": {"type": "string", "format": "binary"}}}
    refused = {"400", "401", "403", "413", "429", "503"}
    return {
        "summary": "Perspective: up to 1,000 requests in one, as Google's clients send them.",
        "operationId": "batch",
        "requestBody": {"required": True, "content": parts},
        "responses": {"200": {"description": "The answers, in order.", "content": parts}}
        | {status: {"description": "Refused, in the words of the API."} for status in sorted(refused)},
    }


def _question(path: str, summary: str) -> dict[str, Any]:
    answered = {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"summary": summary, "operationId": _id(path), "security": [], "responses": {"200": answered}}


def _id(path: str) -> str:
    return path.strip("/$").replace("/", "_").replace(":", "_")


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": SCHEMAS.format(model=model.__name__)}

"""The messages of Google's Perspective API, v1alpha1: protocol buffers in JSON, every field of which may be absent.

`discovery_document` describes them to Google's clients.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from serve.limits import ListOf

TextType = Literal["TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML"]
ScoreType = Literal["SCORE_TYPE_UNSPECIFIED", "PROBABILITY", "STD_DEV_SCORE", "PERCENTILE", "RAW"]


class Message(BaseModel):
    """A protocol buffer in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class TextEntry(Message):
    text: str | None = None
    type: TextType | None = None
    lang: str | None = None


class ArticleAndParentComment(Message):
    article: TextEntry | None = None
    parent_comment: TextEntry | None = None


class Context(Message):
    """What the comment answers to. It is taken and not read: our models judge the comment alone."""

    entries: ListOf[TextEntry] | None = None
    article_and_parent_comment: ArticleAndParentComment | None = None


class AttributeParameters(Message):
    score_type: ScoreType | None = None
    score_threshold: float | None = None


class AnalyzeCommentRequest(Message):
    comment: TextEntry | None = None
    context: Context | None = None
    requested_attributes: dict[str, AttributeParameters | None] | None = None
    span_annotations: bool | None = None
    languages: ListOf[str] | None = None
    do_not_store: bool | None = None
    client_token: str | None = None
    session_id: str | None = None
    community_id: str | None = None
    drop_unsupported_attributes: bool | None = None


class Score(Message):
    value: float | None = None
    type: ScoreType | None = None


class SpanScore(Message):
    begin: int | None = None
    end: int | None = None
    score: Score | None = None


class AttributeScores(Message):
    summary_score: Score | None = None
    span_scores: ListOf[SpanScore] | None = None


class SuggestCommentScoreRequest(Message):
    comment: TextEntry | None = None
    context: Context | None = None
    attribute_scores: dict[str, AttributeScores | None] | None = None
    languages: ListOf[str] | None = None
    community_id: str | None = None
    session_id: str | None = None
    client_token: str | None = None


class AnalyzeCommentResponse(Message):
    attribute_scores: dict[str, AttributeScores] | None = None
    languages: ListOf[str] | None = None
    detected_languages: ListOf[str] | None = None
    client_token: str | None = None


class SuggestCommentScoreResponse(Message):
    client_token: str | None = None
    requested_languages: ListOf[str] | None = None
    detected_languages: ListOf[str] | None = None


METHODS: dict[str, tuple[type[Message], type[Message], str]] = {
    "analyze": (AnalyzeCommentRequest, AnalyzeCommentResponse, "Scores of a comment for the requested attributes."),
    "suggestscore": (
        SuggestCommentScoreRequest,
        SuggestCommentScoreResponse,
        "Stores the scores that a person thinks right, to learn from.",
    ),
}
"""Request, response and description of each method of `comments`."""


def discovery_document(root_url: str) -> dict[str, Any]:
    """What `googleapiclient.discovery.build("commentanalyzer", "v1alpha1", discoveryServiceUrl=…)` reads.

    Args:
        root_url: where this service is reached, with a slash at its end.
    """
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "commentanalyzer:v1alpha1",
        "name": "commentanalyzer",
        "version": "v1alpha1",
        "title": "Comment Analyzer",
        "description": "Scores of toxicity, in the shape of Google's Perspective API.",
        "protocol": "rest",
        "rootUrl": root_url,
        "servicePath": "",
        "baseUrl": root_url,
        "batchPath": "batch",
        "parameters": {
            "key": {"type": "string", "location": "query", "description": "API key."},
            "alt": {"type": "string", "location": "query", "enum": ["json"], "default": "json"},
            "quotaUser": {"type": "string", "location": "query"},
            "$.xgafv": {"type": "string", "location": "query", "enum": ["1", "2"]},
        },
        "schemas": {name: _schema(message) for name, message in sorted(_messages().items())},
        "resources": {"comments": {"methods": {name: _method(name) for name in METHODS}}},
    }


def _method(name: str) -> dict[str, Any]:
    request, response, description = METHODS[name]
    return {
        "id": f"commentanalyzer.comments.{name}",
        "path": f"v1alpha1/comments:{name}",
        "flatPath": f"v1alpha1/comments:{name}",
        "httpMethod": "POST",
        "description": description,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": request.__name__},
        "response": {"$ref": response.__name__},
    }


def _messages() -> dict[str, type[Message]]:
    return {message.__name__: message for message in Message.__subclasses__()}


def _schema(message: type[Message]) -> dict[str, Any]:
    hints = get_type_hints(message)
    properties = {to_camel(name): _type(hints[name]) for name in message.model_fields}
    return {"id": message.__name__, "type": "object", "properties": properties}


SCALARS: dict[Any, dict[str, str]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int32"},
    float: {"type": "number", "format": "float"},
}


def _type(hint: Any) -> dict[str, Any]:
    """A field's type in the words of a discovery document."""
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not NoneType]
    if origin is list:
        return {"type": "array", "items": _type(parts[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(parts[1])}
    if origin is Literal:
        return {"type": "string", "enum": parts}
    if parts:  # X | None
        return _type(parts[0])
    return SCALARS.get(hint, {"$ref": hint.__name__})

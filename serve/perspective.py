"""Google's Perspective API, `v1alpha1/comments:analyze` and `comments:suggestscore`: requests, answers, errors.

It closes on 31 December 2026; its clients go on by changing the host (or, for `google-api-python-client`, the URL of
the discovery document). Bodies, names of errors and limits are those of its published reference; where that is silent,
Google's common conventions for JSON APIs hold (google.rpc.Status, protocol buffers in JSON: names in camelCase or
snake_case, null for absent, empty fields left out).

Shapes: S sentences, L labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from detox.rewriter.pieces import sentences
from serve.attributes import perspective_labels
from serve.errors import ApiError, ErrorKind, validated
from serve.feedback import Suggestion
from serve.judge import Judge, Scored
from serve.perspective_messages import (
    AnalyzeCommentRequest,
    AttributeParameters,
    AttributeScores,
    Context,
    Score,
    SuggestCommentScoreRequest,
    TextEntry,
)
from serve.translation import Translate, as_it_is

MOST_BYTES = 20 * 1024
"""Of a comment in UTF-8, as Perspective's 20 KB."""
MOST_SPANS = 200
MOST_NAME = 256
"""Characters that are kept of what clients call a session, a community or a language."""


async def analyze(body: bytes, judge: Judge, translate: Translate = as_it_is) -> dict[str, Any]:
    """The answer to `comments:analyze`.

    Args:
        translate: from our scores to those that the client's thresholds were tuned on.

    Raises:
        ApiError: as Perspective refuses such a request.
    """
    request = validated(AnalyzeCommentRequest, body or b"{}", _fault)
    text = _text(request.comment)
    _check_context(request.context)
    asked = _asked(request, judge)
    detected, is_known = await judge.language(text, () if request.languages else judge.model.languages)
    languages = _languages(request, detected)
    is_supported = is_known and not request.languages
    supported = asked if is_supported else _supported(languages, detected, request, asked, judge)
    answer: dict[str, Any] = {}
    if supported:
        parts = spans_of(text) if request.span_annotations else [text]
        scored = await judge.scores([text] if len(parts) == 1 else [text, *parts])
        if found := _attribute_scores(supported, scored, parts, translate):
            answer["attributeScores"] = found
    answer["languages"] = languages
    if detected:
        answer["detectedLanguages"] = [detected]
    return answer | ({"clientToken": request.client_token} if request.client_token else {})


async def suggest(body: bytes, judge: Judge) -> tuple[dict[str, Any], list[Suggestion]]:
    """The answer to `comments:suggestscore`, and what is to be stored: the comment with its scores, and each part of it
    that has scores of its own.

    Raises:
        ApiError: as above; a score outside 0..1, a span outside the comment, or no score at all.
    """
    request = validated(SuggestCommentScoreRequest, body or b"{}", _fault)
    text = _text(request.comment)
    _check_context(request.context)
    backed = perspective_labels(judge.model.labels)
    scores: dict[tuple[int, int, str], dict[str, float]] = {}
    for attribute, given in (request.attribute_scores or {}).items():
        if attribute not in backed:
            raise _unknown_attribute(attribute)
        for part, value in _suggested(text, attribute, given or AttributeScores()):
            scores.setdefault(part, {})[backed[attribute]] = value
    if not scores:
        raise _refused("Missing attribute_scores", param="attribute_scores")
    detected, _ = await judge.language(text, ())
    languages = list(request.languages or filter(None, [detected]))
    answer = {
        "clientToken": request.client_token,
        "requestedLanguages": list(request.languages or ()),
        "detectedLanguages": [detected] if detected else [],
    }
    stored = [
        Suggestion(
            text=part[-1],
            scores={label: of_part.get(label) for label in judge.model.labels},
            lang=(languages or [""])[0][:MOST_NAME],
            community=(request.community_id or "")[:MOST_NAME],
            session=(request.session_id or "")[:MOST_NAME],
        )
        for part, of_part in scores.items()
    ]
    return {key: value for key, value in answer.items() if value}, stored


def _suggested(text: str, attribute: str, given: AttributeScores) -> Iterator[tuple[tuple[int, int, str], float]]:
    """The comment, or a part of it, by where it begins and ends and what it says, with the score it should have."""
    param, units = f"attribute_scores.{attribute}", text.encode("utf-16-le", "surrogatepass")
    spans = given.span_scores or []
    if not given.summary_score and not spans:
        raise _refused(f"The suggestion for {attribute} has neither a summaryScore nor spanScores.", param=param)
    if len(spans) > MOST_SPANS:
        raise _refused(f"{attribute} may have {MOST_SPANS} spanScores, has {len(spans)}.", param=param)
    whole = (0, len(units) // 2)
    suggested: list[tuple[int, int, Score | None]] = []
    for span in spans:
        begin, end = span.begin or 0, span.end or 0
        if not (given.summary_score and (begin, end) == whole):  # what is said of the whole, its summary says
            suggested.append((begin, end, span.score))
    if given.summary_score:
        suggested.append((*whole, given.summary_score))
    for begin, end, score in suggested:
        if not 0 <= begin < end <= len(units) // 2:
            raise _refused(f"A span of {attribute} is not within the comment: {begin} to {end}.", param=param)
        value = score.value if score else None
        if value is None or not 0 <= value <= 1:
            raise _refused(f"The suggested score of {attribute} must be a value between 0 and 1.", param=param)
        yield (begin, end, units[2 * begin : 2 * end].decode("utf-16-le", "surrogatepass")), value


def _fault(place: str, fault: Mapping[str, Any]) -> ApiError:
    """No JSON, a field that there is not, or a value of the wrong type, in Google's words."""
    if fault["type"] in ("json_invalid", "too_many_faults"):
        return _malformed(f"Invalid JSON payload received. {fault['msg']}", "")
    parent, _, name = place.rpartition(".")
    if fault["type"] == "extra_forbidden":
        within = f" at '{_snake(parent)}'" if parent else ""
        return _malformed(f'Invalid JSON payload received. Unknown name "{name}"{within}: Cannot find field.', parent)
    shown = str(fault["input"])[:80]
    return _malformed(f"Invalid value at '{_snake(place)}' ({fault['msg']}), {shown}", place)


def _malformed(message: str, place: str) -> ApiError:
    violation = {"field": _snake(place), "description": message} if place else {"description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return ApiError("invalid", message, param=_snake(place), details=[detail])


def _snake(place: str) -> str:
    """Names of fields in snake_case, as Google's messages have them; keys of maps, which have no small letter, stay."""
    return ".".join(
        part if part.upper() == part else re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", part)
        for part in place.split(".")
    )


def _refused(message: str, error_type: str = "INVALID_REQUEST", *, param: str = "", **facts: Any) -> ApiError:
    return ApiError("invalid", message, param=param, details=[_detail(error_type, **facts)])


def _detail(error_type: str, **facts: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error", "errorType": error_type, **facts}


def _unknown_attribute(attribute: str) -> ApiError:
    return _refused(f"Unknown requested attribute: {attribute}", param=f"requested_attributes.{attribute}")


def _text(comment: TextEntry | None) -> str:
    text = (comment.text if comment else None) or ""
    if not text.strip():
        raise _refused("Comment must be non-empty.", "COMMENT_EMPTY", param="comment.text")
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise _refused("Comment text too long.", "COMMENT_TOO_LONG", param="comment.text")
    if comment and comment.type == "HTML":
        raise _refused("Currently, only 'PLAIN_TEXT' comments are supported", param="comment.type")
    return text


def _check_context(context: Context | None) -> None:
    if context and context.entries and context.article_and_parent_comment:
        raise _refused(
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
            param="context",
        )


def _asked(request: AnalyzeCommentRequest, judge: Judge) -> dict[str, tuple[str, float]]:
    """Our label and the least score of each requested attribute."""
    if not request.requested_attributes:
        raise _refused("Missing requested_attributes", "NO_REQUESTED_ATTRIBUTES", param="requested_attributes")
    backed = perspective_labels(judge.model.labels)
    asked: dict[str, tuple[str, float]] = {}
    for attribute, given in request.requested_attributes.items():
        if attribute not in backed:
            raise _unknown_attribute(attribute)
        parameters = given or AttributeParameters()
        if parameters.score_type not in (None, "SCORE_TYPE_UNSPECIFIED", "PROBABILITY"):
            raise _refused(
                f"Requested score type {parameters.score_type} is not supported by attribute {attribute}",
                param=f"requested_attributes.{attribute}.score_type",
            )
        threshold = parameters.score_threshold or 0.0
        if not math.isfinite(threshold):
            raise _refused(
                f"The score threshold of {attribute} must be a number, was {threshold}",
                param=f"requested_attributes.{attribute}.score_threshold",
            )
        asked[attribute] = (backed[attribute], threshold)
    return asked


def _languages(request: AnalyzeCommentRequest, detected: str) -> list[str]:
    if request.languages:
        return list(request.languages)
    if not detected:
        raise _refused("Unable to detect language", "LANGUAGE_DETECTION_FAILED")
    return [detected]


def _supported(
    languages: Sequence[str],
    detected: str,
    request: AnalyzeCommentRequest,
    asked: dict[str, tuple[str, float]],
    judge: Judge,
) -> dict[str, tuple[str, float]]:
    """What is asked, if the model knows all languages; else nothing, where the client would have it dropped."""
    known = judge.model.languages
    unknown = [code for code in languages if known and code.casefold().partition("-")[0] not in known]
    if not unknown:
        return asked
    if request.drop_unsupported_attributes:
        return {}
    attribute = next(iter(asked))
    raise _refused(
        f"Attribute {attribute} does not support request languages: {', '.join(unknown)}",
        "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        param="languages",
        languageNotSupportedByAttributeError={
            **({"detectedLanguages": [detected]} if detected else {}),
            **({"requestedLanguages": list(request.languages)} if request.languages else {}),
            "attribute": attribute,
        },
    )


def spans_of(text: str) -> list[str]:
    """The sentences of a text; of very many, neighbours together, so that there are at most `MOST_SPANS`."""
    parts = sentences(text)
    together = -(-len(parts) // MOST_SPANS)
    return ["".join(parts[at : at + together]) for at in range(0, len(parts), together)] if together > 1 else parts


def _attribute_scores(
    asked: Mapping[str, tuple[str, float]], scored: Scored, parts: Sequence[str], translate: Translate
) -> dict[str, Any]:
    """Scores of the attributes that reach their threshold: of the whole text, and of each of its parts.

    Args:
        scored: the whole text first, then its parts where there are several.
    """
    spans = utf16_spans(parts)
    made: dict[str, Any] = {}
    for attribute, (label, threshold) in asked.items():
        values = (translate(scored.model.version, attribute, value) for value in scored.column(label).tolist())
        whole, *of_parts = values
        if whole >= threshold:
            made[attribute] = {
                "spanScores": [
                    {"begin": begin, "end": end, "score": _score(value)}
                    for (begin, end), value in zip(spans, of_parts or [whole], strict=True)
                ],
                "summaryScore": _score(whole),
            }
    return made


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "type": "PROBABILITY"}


def utf16_spans(parts: Sequence[str]) -> list[tuple[int, int]]:
    """Begin and end of each part of a text in UTF-16 code units, which Perspective counts in: an emoji is two.

    Of several, white space around each is in none, as in Perspective's own example; a character of it is one unit.
    """
    ends = list(accumulate(len(part.encode("utf-16-le", "surrogatepass")) // 2 for part in parts))
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    if len(spans) == 1:
        return spans
    return [
        (begin + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())) if part.strip() else (begin, end)
        for part, (begin, end) in zip(parts, spans, strict=True)
    ]


GOOGLE: dict[ErrorKind, tuple[int, str]] = {
    "invalid": (400, "INVALID_ARGUMENT"),
    "no_key": (403, "PERMISSION_DENIED"),
    "bad_key": (400, "INVALID_ARGUMENT"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "too_large": (400, "INVALID_ARGUMENT"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "unavailable": (503, "UNAVAILABLE"),
    "internal": (500, "INTERNAL"),
}
"""HTTP status and google.rpc.Code of each kind."""

REASONS: dict[ErrorKind, str] = {"bad_key": "API_KEY_INVALID", "rate_limited": "RATE_LIMIT_EXCEEDED"}
"""google.rpc.ErrorInfo's reasons, by which Google's clients tell errors apart."""


def status_and_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error, as Google's APIs answer."""
    code, status = GOOGLE[error.kind]
    details = list(error.detail.get("details", ()))
    if error.kind == "too_large":
        details = [_detail("COMMENT_TOO_LONG")]
    if error.kind in REASONS:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": REASONS[error.kind],
            "domain": "googleapis.com",
            "metadata": {"service": "commentanalyzer.googleapis.com"},
        }
        details.append(info)
    body = {"code": code, "message": error.message, "status": status}
    return code, {"error": body | ({"details": details} if details else {})}

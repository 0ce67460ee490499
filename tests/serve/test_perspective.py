"""Perspective's API: answers by hand, every error that its reference names, and its offsets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve.errors import ApiError
from serve.perspective import analyze, spans_of, status_and_body, suggest, utf16_spans
from serve.perspective_messages import discovery_document
from tests.serve.judges import LABELS, MODEL, WordJudge

SIX = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")


def judge() -> WordJudge:
    return WordJudge({"idiot": ("insult", 0.9), "kill": ("threat", 0.3)})


def body(text: str = "You idiot.", attributes: Any = ("INSULT",), **fields: Any) -> dict[str, Any]:
    asked = {name: {} for name in attributes} if isinstance(attributes, tuple) else attributes
    return {"comment": {"text": text}, "requestedAttributes": asked} | fields


def answered(request: Any, to: WordJudge | None = None) -> dict[str, Any]:
    raw = request if isinstance(request, bytes) else json.dumps(request).encode()
    return asyncio.run(analyze(raw, to or judge()))


def refused(request: Any) -> dict[str, Any]:
    """The error's body; its HTTP status is its code."""
    with pytest.raises(ApiError) as caught:
        answered(request)
    status, found = status_and_body(caught.value)
    assert status == found["error"]["code"]
    return found["error"]


def test_a_score_and_what_comes_with_it() -> None:
    score = {"value": pytest.approx(0.9), "type": "PROBABILITY"}
    assert answered(body(clientToken="mine")) == {
        "attributeScores": {"INSULT": {"summaryScore": score, "spanScores": [{"begin": 0, "end": 10, "score": score}]}},
        "languages": ["en"],
        "detectedLanguages": ["en"],
        "clientToken": "mine",
    }


def test_all_production_attributes_have_a_label() -> None:
    assert set(answered(body(attributes=SIX))["attributeScores"]) == set(SIX)


def test_languages_that_are_given_hold_and_what_is_detected_is_said_too() -> None:
    found = answered(body(languages=["de"]))
    assert found["languages"] == ["de"]
    assert found["detectedLanguages"] == ["en"]
    assert "detectedLanguages" not in answered(body("12345", languages=["en"]))
    assert answered(body(languages=["en-GB"]))["languages"] == ["en-GB"]


def test_scores_below_their_threshold_are_left_out() -> None:
    asked = {"INSULT": {"scoreThreshold": 0.5}, "THREAT": {"scoreThreshold": 0.5}}
    assert set(answered(body(attributes=asked))["attributeScores"]) == {"INSULT"}
    assert "attributeScores" not in answered(body(attributes={"THREAT": {"scoreThreshold": 0.5}}))


def test_spans_are_sentences_in_utf16_units() -> None:
    """The emoji is two units, so the first sentence has 6; the space behind it is in none, as in Perspective's
    reference, whose own example is the last."""
    found = answered(body("Hi 😀! You idiot.", spanAnnotations=True))["attributeScores"]["INSULT"]
    assert [(span["begin"], span["end"]) for span in found["spanScores"]] == [(0, 6), (7, 17)]
    assert [span["score"]["value"] for span in found["spanScores"]] == pytest.approx([0.1, 0.9])
    assert found["summaryScore"]["value"] == pytest.approx(0.9)
    assert utf16_spans(["a😀", "\ud800b"]) == [(0, 3), (3, 5)]
    assert utf16_spans([" a b "]) == [(0, 5)]
    assert utf16_spans([" a\u3000", " \n"]) == [(1, 2), (3, 5)]
    parts = spans_of("What kind of idiot name is foo? Sorry, I like your name.")
    assert utf16_spans(parts) == [(0, 31), (32, 56)]


def test_the_whole_comment_is_scored_with_its_sentences_in_one_go() -> None:
    asked = judge()
    answered(body("One. Two.", spanAnnotations=True), asked)
    assert asked.asked == [["One. Two.", "One. ", "Two."]]


def test_very_many_sentences_are_spans_of_several() -> None:
    found = answered(body("a. " * 1000, spanAnnotations=True))["attributeScores"]["INSULT"]["spanScores"]
    assert len(found) == 200
    assert (found[0]["begin"], found[-1]["end"]) == (0, 2999)


def test_snake_case_and_nulls_are_protocol_buffers_too() -> None:
    request = {
        "comment": {"text": "You idiot.", "type": None},
        "requested_attributes": {"INSULT": None},
        "context": None,
    }
    assert "INSULT" in answered(request)["attributeScores"]


@pytest.mark.parametrize(
    ("request_body", "error_type", "message"),
    [
        (body(""), "COMMENT_EMPTY", "Comment must be non-empty."),
        (body(" \n"), "COMMENT_EMPTY", "Comment must be non-empty."),
        ({"requestedAttributes": {"INSULT": {}}}, "COMMENT_EMPTY", "Comment must be non-empty."),
        (body("ä" * 10_241), "COMMENT_TOO_LONG", "Comment text too long."),
        (body(attributes=()), "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
        (body(attributes=("FLIRTATION",)), "INVALID_REQUEST", "Unknown requested attribute: FLIRTATION"),
        (
            body(attributes={"INSULT": {"scoreType": "RAW"}}),
            "INVALID_REQUEST",
            "Requested score type RAW is not supported by attribute INSULT",
        ),
        (
            {"comment": {"text": "a", "type": "HTML"}, "requestedAttributes": {"INSULT": {}}},
            "INVALID_REQUEST",
            "Currently, only 'PLAIN_TEXT' comments are supported",
        ),
        (
            body(context={"entries": [{"text": "a"}], "articleAndParentComment": {"article": {"text": "b"}}}),
            "INVALID_REQUEST",
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
        ),
        (body("12345"), "LANGUAGE_DETECTION_FAILED", "Unable to detect language"),
    ],
)
def test_errors_of_the_reference(request_body: Any, error_type: str, message: str) -> None:
    found = refused(request_body)
    assert (found["code"], found["status"], found["message"]) == (400, "INVALID_ARGUMENT", message)
    assert [detail["errorType"] for detail in found["details"]] == [error_type]
    assert found["details"][0]["@type"] == "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"


def test_a_language_that_the_model_does_not_know() -> None:
    found = refused(body(languages=["en", "fr"]))
    assert found["message"] == "Attribute INSULT does not support request languages: fr"
    assert found["details"][0]["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
    assert found["details"][0]["languageNotSupportedByAttributeError"] == {
        "detectedLanguages": ["en"],
        "requestedLanguages": ["en", "fr"],
        "attribute": "INSULT",
    }
    assert "attributeScores" not in answered(body(languages=["fr"], dropUnsupportedAttributes=True))
    anywhere = WordJudge({}, MODEL._replace(languages=()))
    assert answered(body(languages=["fr"]), anywhere)["languages"] == ["fr"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "Invalid JSON payload received."),
        (b"\xff\xfe", "Invalid JSON payload received."),
        (b"[]", "Invalid value at ''"),
        (json.dumps(body(coment={})).encode(), 'Unknown name "coment": Cannot find field.'),
        (b'{"comment": {"text": 3}}', "Invalid value at 'comment.text'"),
        (b'{"comment": {"text": "a"}, "spanAnnotations": "yes"}', "Invalid value at 'span_annotations'"),
        (b'{"comment-text": "a"}', 'Unknown name "comment-text"'),
        (
            b'{"requestedAttributes": {"TOXICITY": {"scoreThreshold": "a"}}}',
            "Invalid value at 'requested_attributes.TOXICITY.score_threshold'",
        ),
    ],
)
def test_bodies_of_the_wrong_shape(raw: bytes, said: str) -> None:
    found = refused(raw)
    assert said in found["message"]
    assert found["status"] == "INVALID_ARGUMENT"
    assert found["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"


def test_an_empty_body_is_an_empty_request() -> None:
    assert refused(b"")["details"][0]["errorType"] == "COMMENT_EMPTY"


def test_keys_and_quotas_as_google_refuses_them() -> None:
    for kind, code, status, reason in (
        ("no_key", 403, "PERMISSION_DENIED", None),
        ("bad_key", 400, "INVALID_ARGUMENT", "API_KEY_INVALID"),
        ("rate_limited", 429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
        ("unavailable", 503, "UNAVAILABLE", None),
    ):
        found, answer = status_and_body(ApiError(kind, "no"))  # type: ignore[arg-type]
        assert (found, answer["error"]["status"]) == (code, status)
        assert [detail["reason"] for detail in answer["error"].get("details", [])] == ([reason] if reason else [])


# suggestscore


def suggested(attributes: dict[str, Any], **fields: Any) -> Any:
    request = {"comment": {"text": "you fine person"}, "attributeScores": attributes} | fields
    return asyncio.run(suggest(json.dumps(request).encode(), judge()))


def test_a_suggestion_is_stored_under_our_own_labels() -> None:
    answer, [stored] = suggested(
        {"TOXICITY": {"summaryScore": {"value": 0.0}}, "INSULT": {"summaryScore": {"value": 1}}},
        clientToken="t",
        communityId="forum",
    )
    assert answer == {"clientToken": "t", "detectedLanguages": ["en"]}
    assert stored.scores == dict.fromkeys(LABELS) | {"toxic": 0.0, "insult": 1.0}
    assert (stored.text, stored.lang, stored.community) == ("you fine person", "en", "forum")


def test_parts_of_a_comment_may_have_scores_of_their_own() -> None:
    """The emoji is two units; a span that begins at 0 need not say so."""
    spans = [{"end": 2, "score": {"value": 0}}, {"begin": 3, "end": 7, "score": {"value": 1}}]
    whole = {"summaryScore": {"value": 0.5}}
    _, stored = suggested({"INSULT": {"spanScores": spans}, "TOXICITY": whole}, comment={"text": "😀 fool, you"})
    scores = {row.text: {label: score for label, score in row.scores.items() if score is not None} for row in stored}
    assert scores == {"😀": {"insult": 0.0}, "fool": {"insult": 1.0}, "😀 fool, you": {"toxic": 0.5}}
    twice = [{"begin": begin, "end": begin + 4, "score": {"value": value}} for begin, value in ((0, 0), (5, 1))]
    _, stored = suggested({"INSULT": {"spanScores": twice}}, comment={"text": "fool fool"})
    assert [(row.text, row.scores["insult"]) for row in stored] == [("fool", 0.0), ("fool", 1.0)]
    mirrored = {"spanScores": [{"begin": 0, "end": 4, "score": {"value": 1}}], "summaryScore": {"value": 0.9}}
    _, stored = suggested({"INSULT": mirrored}, comment={"text": "fool"})
    assert [(row.text, row.scores["insult"]) for row in stored] == [("fool", 0.9)]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, "Missing attribute_scores"),
        ({"INSULT": {"spanScores": [{"begin": 3, "end": 99, "score": {"value": 1}}]}}, "not within the comment: 3 to"),
        ({"INSULT": {"spanScores": [{"begin": 3, "end": 3, "score": {"value": 1}}]}}, "not within the comment"),
        ({"INSULT": {"spanScores": [{"begin": 0, "end": 3}]}}, "must be a value between 0 and 1"),
        ({"INSULT": {"spanScores": [{"end": 3, "score": {"value": 1}}] * 201}}, "may have 200 spanScores, has 201"),
        ({"FLIRTATION": {"summaryScore": {"value": 0.5}}}, "Unknown requested attribute: FLIRTATION"),
        ({"TOXICITY": {"summaryScore": {"value": 1.5}}}, "must be a value between 0 and 1"),
        ({"TOXICITY": {}}, "has neither a summaryScore nor spanScores"),
    ],
)
def test_suggestions_that_say_nothing(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        suggested(attributes)


# The discovery document


def test_the_discovery_document_describes_every_message() -> None:
    found = discovery_document("http://127.0.0.1:8000/")
    assert found["rootUrl"] == "http://127.0.0.1:8000/"
    named = {
        "TextEntry", "Context", "ArticleAndParentComment", "AttributeParameters", "AnalyzeCommentRequest", "Score",
        "SpanScore", "AttributeScores", "AnalyzeCommentResponse", "SuggestCommentScoreRequest",
        "SuggestCommentScoreResponse",
    }  # fmt: skip
    assert found["schemas"].keys() == named
    request = found["schemas"]["AnalyzeCommentRequest"]["properties"]
    assert request["comment"] == {"$ref": "TextEntry"}
    assert request["languages"] == {"type": "array", "items": {"type": "string"}}
    assert request["requestedAttributes"]["additionalProperties"] == {"$ref": "AttributeParameters"}
    assert request["doNotStore"] == {"type": "boolean"}
    assert found["schemas"]["Score"]["properties"]["type"]["enum"][1] == "PROBABILITY"
    assert found["resources"]["comments"]["methods"]["analyze"]["path"] == "v1alpha1/comments:analyze"

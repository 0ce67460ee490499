"""The OpenAPI document holds for every request that it allows, and nothing that it does not allow makes a 500."""

from __future__ import annotations

import json
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import content_type_conformance, response_schema_conformance, status_code_conformance
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serve.gateway import Gateway
from serve.openapi import PATHS, Described
from serve.responses import DECISION, VERSION
from serve.settings import GatewaySettings
from tests.serve.judges import WordJudge
from tests.serve.rewriters import Cutting

MALFORMED = 5000
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
POSTS = (
    "/v1/classify", "/v1/detoxify", "/v1/explain", "/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore",
    "/v1/moderations", "/predict", "/v1/chat/completions",
)  # fmt: skip
VALID: dict[str, object] = {
    "/v1/classify": {"input": ["you idiot"]},
    "/v1/detoxify": {"input": "you idiot", "lang": "en"},
    "/v1/explain": {"input": "you idiot", "label": "insult"},
    "/v1alpha1/comments:analyze": {"comment": {"text": "you"}, "requestedAttributes": {"TOXICITY": {}}},
    "/v1alpha1/comments:suggestscore": {
        "comment": {"text": "you"},
        "attributeScores": {
            "TOXICITY": {"summaryScore": {"value": 1}, "spanScores": [{"end": 3, "score": {"value": 1}}]}
        },
    },
    "/v1/moderations": {"input": [{"type": "text", "text": "you"}]},
    "/predict": {"inputs": [["you"], ["me"]]},
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "you"}]},
}
ODD = [None, True, -1, 1e400, 10**30, "", "\ud800", "x" * 70_000, [], {}, [[]], {"": {}}, ["a"] * 300, "NaN"]


def app(**settings: str) -> Starlette:
    return Gateway(GatewaySettings(**settings), WordJudge({"idiot": ("insult", 0.9)}), Cutting()).app  # type: ignore[arg-type]


FEEDBACK = tempfile.TemporaryDirectory()
schema = schemathesis.openapi.from_asgi("/openapi.json", app(feedback=FEEDBACK.name))


@schema.parametrize()
@settings(max_examples=30, deadline=None)
def test_every_request_that_the_document_knows_is_answered_as_it_says(case: schemathesis.Case) -> None:
    """No status, type of content or body that it does not know, and no 5xx."""
    response = case.call()
    assert response.status_code < 500
    case.validate_response(response, checks=CHECKS)


@pytest.mark.parametrize("one", PATHS, ids=lambda one: one.path)
def test_its_examples_hold(one: Described, tmp_path: Path) -> None:
    response = TestClient(app(feedback=str(tmp_path))).post(one.path, json=one.example)
    assert response.status_code == 200, response.text
    one.response.model_validate(response.json())
    one.response.model_validate(one.answer)
    assert shape(one.answer) == shape(response.json())
    named = {DECISION} if one.path.endswith("suggestscore") else {DECISION, VERSION}  # the former asks no model
    assert named <= set(response.headers)


def shape(answer: object) -> object:
    """The fields of an answer, and those of its first result."""
    if isinstance(answer, list):
        return shape(answer[0])
    return {key: shape(value) if key in ("results", "choices") else None for key, value in dict(answer).items()}  # type: ignore[call-overload]


def mangled(rng: random.Random, body: object) -> object:
    """`body` with something odd in it: a value, a key, or a whole part of it."""
    if rng.random() < 0.3 or not isinstance(body, dict | list) or not body:
        return rng.choice(ODD)
    if isinstance(body, list):
        at = rng.randrange(len(body))
        return [mangled(rng, one) if number == at else one for number, one in enumerate(body)]
    key = rng.choice(list(body))
    if rng.random() < 0.2:
        return {rng.choice(["", key.upper(), "x" * 300, "\ud800"]): body[key]}
    return body | {key: mangled(rng, body[key])}


LISTS: tuple[tuple[str, str], ...] = (
    ("/v1/classify", "input"), ("/v1/detoxify", "input"), ("/v1/detoxify", "lang"), ("/v1/explain", "input"),
    ("/v1alpha1/comments:analyze", "languages"), ("/v1alpha1/comments:suggestscore", "languages"),
    ("/v1/moderations", "input"), ("/predict", "inputs"), ("/v1/chat/completions", "messages"),
)  # fmt: skip


@pytest.mark.parametrize("wrong", [1, {}, [1]], ids=str)
@pytest.mark.parametrize(("path", "field"), LISTS, ids=str)
def test_a_list_of_wrong_things_costs_no_more_than_its_first(path: str, field: str, wrong: object) -> None:
    """Not a fault an item: that took seconds and a gigabyte."""
    client = TestClient(app())
    raw = json.dumps({**VALID[path], field: [wrong] * 300_000}).encode()  # type: ignore[dict-item]
    tracemalloc.start()
    try:
        response = client.post(path, content=raw)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 <= response.status_code < 500, response.text[:300]
    assert most < 60_000_000


def test_a_body_of_nothing_but_unknown_fields_is_told_in_few_words() -> None:
    for path in POSTS:
        odd = {f"field{number}": 1 for number in range(100_000)}
        response = TestClient(app()).post(path, json={**odd, "requestedAttributes": odd})
        assert 400 <= response.status_code < 500
        assert len(response.content) < 10_000


@pytest.mark.parametrize("path", POSTS)
def test_malformed_bodies_are_the_clients_fault(path: str, tmp_path: Path) -> None:
    """5,000 over all paths: JSON with odd parts, JSON cut short, bytes that are none."""
    client, rng = TestClient(app(feedback=str(tmp_path)), raise_server_exceptions=False), random.Random(path)
    statuses = set[int]()
    for _ in range(MALFORMED // len(POSTS)):
        raw = json.dumps(mangled(rng, VALID[path])).encode()
        kind = rng.random()
        if kind < 0.2:
            raw = raw[: rng.randrange(len(raw))]
        elif kind < 0.3:
            raw = rng.randbytes(rng.randrange(60))
        elif kind < 0.35:
            raw = b"[" * 5000
        response = client.post(path, content=raw)
        statuses.add(response.status_code)
        assert response.status_code < 500, raw[:300]
        assert response.headers["content-type"] in ("application/json", "text/event-stream; charset=utf-8")
    assert statuses & {400, 413, 422}

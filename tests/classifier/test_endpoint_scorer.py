"""A running service as a scorer: order, batches, labels; a failure is an error, never a score."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from detox.classifier import endpoint_scorer
from detox.classifier.endpoint_scorer import EndpointError, EndpointScorer
from detox.classifier.scorer import load_scorer

INFO = {
    "model": {
        "name": "forum",
        "version": "v1",
        "labels": ["toxic", "insult"],
        "thresholds": {"toxic": 0.4, "insult": 1},
    }
}


class Service:
    """Scores a text by its length; `failures` are given out first."""

    def __init__(self, *failures: httpx.Response, info: object = INFO) -> None:
        self.failures, self.info, self.asked = list(failures), info, list[list[str]]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/info":
            return httpx.Response(200, json=self.info)
        if self.failures:
            return self.failures.pop(0)
        texts = json.loads(request.content)["input"]
        self.asked.append(texts)
        results = [{"probabilities": {"insult": 0.5, "toxic": min(len(text) / 1000, 1.0)}} for text in texts]
        return httpx.Response(200, json={"model": {"version": "v1"}, "results": results})

    def scorer(self) -> EndpointScorer:
        return EndpointScorer(
            "http://service", httpx.Client(base_url="http://service", transport=httpx.MockTransport(self))
        )


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_scorer.time, "sleep", lambda seconds: None)


def test_texts_keep_their_order_over_several_requests() -> None:
    service = Service()
    scorer = service.scorer()
    texts = ["x" * length for length in range(150)]
    scores = scorer.score(texts)
    assert (scorer.labels, scorer.thresholds, scorer.model) == (
        ("toxic", "insult"),
        {"toxic": 0.4, "insult": 1.0},
        "forum v1",
    )
    np.testing.assert_allclose(scores.column("toxic"), np.arange(150) / 1000, atol=1e-6)
    assert [len(asked) for asked in service.asked] == [64, 64, 22]
    assert scorer.score([]).values_NL.shape == (0, 2)
    assert scorer.score(["\ud800"]).values_NL.shape == (1, 2)


def test_long_texts_keep_below_the_size_of_a_body() -> None:
    service = Service()
    assert len(service.scorer().score(["x" * 50_000] * 14)) == 14
    assert [len(asked) for asked in service.asked] == [6, 6, 2]


def test_a_busy_service_is_asked_again() -> None:
    busy = httpx.Response(503, headers={"retry-after": "1"}, json={})
    assert Service(busy, httpx.Response(429, json={})).scorer().score(["abc"]).column("toxic")[0] == pytest.approx(
        0.003
    )


def test_what_fails_is_an_error() -> None:
    with pytest.raises(EndpointError, match="answers 401"):
        Service(httpx.Response(401, text="no key")).scorer().score(["abc"])
    with pytest.raises(EndpointError, match="does not answer .503 .*: is the service running"):
        Service(*[httpx.Response(503, json={})] * endpoint_scorer.TRIES).scorer().score(["abc"])
    with pytest.raises(EndpointError, match="does not name a model"):
        Service(info={"version": 3}).scorer()
    replaced = httpx.Response(200, json={"model": {"version": "v2"}, "results": [{"probabilities": {"other": 0.1}}]})
    with pytest.raises(EndpointError, match="now serves version v2, not v1: measure again"):
        Service(replaced).scorer().score(["abc"])


def test_nobody_there() -> None:
    with pytest.raises(EndpointError, match="does not answer"):
        load_scorer("endpoint:http://127.0.0.1:9")

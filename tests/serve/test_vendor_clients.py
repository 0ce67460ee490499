"""The vendors' own Python clients against the running service: only the URL is another."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError
from huggingface_hub import InferenceClient

from detox.classifier.scorer import load_scorer
from tests.rewriter.artifacts import CIVIL, RUDE, THANKS
from tests.serve.conftest import Service

pytestmark = pytest.mark.serve
TEXT = "You are an idiot. 😀 Thank you for the page."


@pytest.fixture(scope="module")
def perspective(service: Service) -> discovery.Resource:
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey="any",
        discoveryServiceUrl=f"{service.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    )


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0)


def test_perspective_analyzes(service: Service, perspective: discovery.Resource) -> None:
    body = {
        "comment": {"text": TEXT},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}, "INSULT": {"scoreThreshold": 0.0}, "THREAT": {"scoreThreshold": 1.0}},
        "spanAnnotations": True,
        "doNotStore": True,
        "clientToken": "mine",
    }
    answer = perspective.comments().analyze(body=body).execute()
    expected = load_scorer(str(service.classifier)).score([TEXT])
    scores = answer["attributeScores"]
    assert scores["TOXICITY"]["summaryScore"]["value"] == pytest.approx(float(expected.column("toxic")[0]), abs=1e-4)
    assert scores["INSULT"]["summaryScore"]["value"] == pytest.approx(float(expected.column("insult")[0]), abs=1e-4)
    assert "THREAT" not in scores
    spans = [(span["begin"], span["end"]) for span in scores["TOXICITY"]["spanScores"]]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(TEXT.encode("utf-16-le")) // 2
    assert answer["clientToken"] == "mine"
    assert answer["languages"] == ["en"]


def test_perspective_refuses_in_its_own_words(perspective: discovery.Resource) -> None:
    body = {"comment": {"text": TEXT}, "languages": ["en"], "requestedAttributes": {"SEXUALLY_EXPLICIT": {}}}
    with pytest.raises(HttpError) as refused:
        perspective.comments().analyze(body=body).execute()
    assert refused.value.status_code == 400
    error = json.loads(refused.value.content)["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert "SEXUALLY_EXPLICIT" in error["message"]


def test_perspective_answers_batches(perspective: discovery.Resource) -> None:
    """Each part as it is alone, also the one that is refused."""
    bodies = {
        f"{attribute} + 😀": {"comment": {"text": TEXT}, "languages": ["en"], "requestedAttributes": {attribute: {}}}
        for attribute in ("TOXICITY", "FLIRTATION", "INSULT")
    }
    answers: dict[str, Any] = {}
    batch = perspective.new_batch_http_request(
        callback=lambda name, answer, error: answers.update({name: (answer, error)})
    )
    for name, body in bodies.items():
        batch.add(perspective.comments().analyze(body=body), request_id=name)
    batch.execute()
    assert answers.keys() == bodies.keys()
    for name, (answer, error) in answers.items():
        if name.startswith("FLIRTATION"):
            assert error.status_code == 400
            assert json.loads(error.content)["error"]["details"][0]["errorType"] == "INVALID_REQUEST"
        else:
            assert answer == perspective.comments().analyze(body=bodies[name]).execute()


def test_perspective_takes_suggestions(service: Service, perspective: discovery.Resource) -> None:
    scores = {"TOXICITY": {"summaryScore": {"value": 0.1}}}
    body = {"comment": {"text": TEXT}, "attributeScores": scores, "languages": ["en"], "clientToken": "mine"}
    answer = perspective.comments().suggestscore(body=body).execute()
    assert answer["clientToken"] == "mine"
    rows = [json.loads(line) for path in service.feedback.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [(row["text"], row["toxic"]) for row in rows] == [(TEXT, 0.1)]


def test_openai_moderates(service: Service, client: openai.OpenAI) -> None:
    expected = load_scorer(str(service.classifier)).score([TEXT, "thanks"])
    answer = client.moderations.create(model="omni-moderation-latest", input=[TEXT, "thanks"])
    assert len(answer.results) == 2
    for result, (toxic, threat, insult) in zip(answer.results, expected.values_NL.tolist(), strict=True):
        assert result.category_scores.harassment == pytest.approx(max(toxic, insult), abs=1e-4)
        assert result.category_scores.harassment_threatening == pytest.approx(threat, abs=1e-4)
    raw = client.moderations.with_raw_response.create(input=TEXT)
    assert "sexual" in raw.headers["x-unjudged-categories"]
    with pytest.raises(openai.BadRequestError, match="Images are not supported"):
        client.moderations.create(input=[{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])


def test_openai_chats_with_the_rewriter(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": RUDE}]
    whole = client.chat.completions.create(model="polite", messages=messages)  # type: ignore[arg-type]
    assert whole.choices[0].message.content == CIVIL
    messages = [{"role": "user", "content": f"{THANKS} {RUDE}"}]
    stream = client.chat.completions.create(model="polite", messages=messages, stream=True)  # type: ignore[call-overload]
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(parts) == f"{THANKS} {CIVIL}"
    assert next(model.id for model in client.models.list()) == "polite"


def test_hugging_faces_client_reads_the_labels(service: Service) -> None:
    """As it asks Text Embeddings Inference, at the address alone; of TEI's list it takes the first."""
    found: Any = InferenceClient().text_classification(TEXT, model=service.url)
    [expected, *_] = service.post("/predict", {"inputs": TEXT}).json()
    assert found.label == expected["label"]
    assert found.score == pytest.approx(expected["score"], abs=1e-4)

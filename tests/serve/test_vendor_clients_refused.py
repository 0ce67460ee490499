"""What the vendors' own Python clients make of keys, scopes and rates: their own exceptions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import openai
import pytest
import uvicorn
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from serve.gateway import Gateway
from serve.keys import digest
from serve.settings import GatewaySettings
from tests.ports import free_port
from tests.serve.judges import WordJudge
from tests.serve.rewriters import Cutting

SLOW = ("openai", "google", "also google")
"""Keys of one request a minute."""
KEYS = (
    {"id": "forum", "sha256": digest("good"), "scopes": ["classify", "detoxify"]},
    *({"id": key, "sha256": digest(key), "scopes": ["classify"], "per_minute": 1} for key in SLOW),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway without models behind a real socket."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(json.dumps({"keys": KEYS}))
    gateway, port = Gateway(GatewaySettings(keys=str(keys)), WordJudge({}), Cutting()), free_port()
    server = uvicorn.Server(uvicorn.Config(gateway.app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def client(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def perspective(url: str, key: str) -> discovery.Resource:
    where = f"{url}/$discovery/rest?version=v1alpha1"
    return discovery.build(
        "commentanalyzer", "v1alpha1", developerKey=key, discoveryServiceUrl=where, static_discovery=False
    )


def test_openai_knows_wrong_keys_scopes_rates_and_models(url: str) -> None:
    assert client(url, "good").moderations.create(input="fine").results
    with pytest.raises(openai.AuthenticationError) as wrong:
        client(url, "bad").moderations.create(input="fine")
    assert (wrong.value.code, wrong.value.type) == ("invalid_api_key", "invalid_request_error")
    assert wrong.value.request_id
    messages = [{"role": "user", "content": "you idiot"}]
    with pytest.raises(openai.PermissionDeniedError):
        client(url, "google").chat.completions.create(model="cutter", messages=messages)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError) as unknown:
        client(url, "good").chat.completions.create(model="gpt-4o", messages=messages)  # type: ignore[arg-type]
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    client(url, "openai").moderations.create(input="fine")
    with pytest.raises(openai.RateLimitError) as spent:
        client(url, "openai").moderations.create(input="fine")
    assert (spent.value.code, spent.value.type) == ("rate_limit_exceeded", "requests")
    assert int(spent.value.response.headers["retry-after"]) >= 1


def test_google_knows_wrong_keys_and_spent_rates(url: str) -> None:
    body = {"comment": {"text": "You."}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}}
    assert perspective(url, "good").comments().analyze(body=body).execute()["attributeScores"]
    with pytest.raises(HttpError) as wrong:
        perspective(url, "bad").comments().analyze(body=body).execute()
    assert wrong.value.status_code == 400
    assert wrong.value.error_details[0]["reason"] == "API_KEY_INVALID"
    asking = perspective(url, "also google").comments().analyze(body=body)
    asking.execute()
    with pytest.raises(HttpError) as spent:
        asking.execute()
    assert spent.value.status_code == 429
    assert json.loads(spent.value.content)["error"]["status"] == "RESOURCE_EXHAUSTED"

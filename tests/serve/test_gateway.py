"""The gateway as an ASGI application: each path, who is let in, what is refused in whose words, and what is logged."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from detox.data.reading import read
from detox.data.settings import DataSettings
from serve.gateway import Gateway
from serve.keys import digest
from serve.settings import Bands, GatewaySettings
from tests.serve.judges import LABELS, WordJudge
from tests.serve.rewriters import Cutting


class Silent:
    """Meters that measure nothing."""

    def refused(self, path: str, kind: str) -> None: ...

    def scored(self, scored: Any) -> None: ...


def gateway(**settings: Any) -> Gateway:
    judge = WordJudge({"idiot": ("insult", 0.9), "kill": ("threat", 0.3)})
    return Gateway(GatewaySettings(**settings), judge, Cutting(), meters=Silent())  # type: ignore[arg-type]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def asked(app: Gateway, path: str, body: Any = None, method: str = "POST", **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            return await client.request(method, path, content=content, **options)

    return run(ask())


# Native


def test_classify_one_and_several() -> None:
    answer = asked(gateway(), "/v1/classify", {"input": "you idiot"}).json()
    assert answer["decision"].startswith("dec-")
    assert answer["model"] == {"name": "tiny", "version": "0123456789ab"}
    [result] = answer["results"]
    assert result["flags"] == ["insult"]
    assert result["probabilities"].keys() == set(LABELS)
    assert result["severity"] == pytest.approx(0.9)
    assert result["action"] == "block"
    several = asked(gateway(), "/v1/classify", {"input": ["fine", "kill"]}).json()["results"]
    assert [row["action"] for row in several] == ["allow", "review"]  # 0.3 is just above the threshold of threats


def test_bands_are_the_services_or_the_keys(tmp_path: Path) -> None:
    assert (
        asked(gateway(bands=Bands(review=0.95, block=0.99)), "/v1/classify", {"input": "you idiot"}).json()["results"][
            0
        ]["action"]
        == "allow"
    )
    entry = {"id": "strict", "sha256": digest("s"), "bands": {"review": 0.05, "block": 0.09}}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    strict = gateway(keys=str(tmp_path / "keys.json"))
    answer = asked(strict, "/v1/classify", {"input": "fine"}, headers={"x-api-key": "s"}).json()
    assert answer["results"][0]["action"] == "block"


def test_detoxify_and_its_stream() -> None:
    text = "You idiot. Read page 12."
    answer = asked(gateway(), "/v1/detoxify", {"input": [text, "fine"], "lang": "en"}).json()
    assert [(row["text"], row["how"], row["changed"]) for row in answer["results"]] == [
        ("You . Read page 12.", "edited", True),
        ("fine", "already neutral", False),
    ]
    streamed = asked(gateway(), "/v1/detoxify", {"input": text, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert [json.loads(event)["text"] for event in events[1:-1]] == ["You . ", "Read page 12."]


@pytest.mark.parametrize(("text", "kind"), [("Fine. It is full.", "unavailable"), ("Fine. Go boom.", "internal")])
def test_a_stream_that_fails_in_the_middle_says_so(text: str, kind: str) -> None:
    app = gateway()
    streamed = asked(app, "/v1/detoxify", {"input": text, "stream": True})
    assert streamed.status_code == 200
    last = json.loads([line for line in streamed.text.split("\n\n") if line][-1].removeprefix("data: "))
    assert last["error"]["type"] == kind
    assert "boom" not in streamed.text
    assert app._rewrites.taken == 0


def test_a_full_house_is_an_ordinary_answer_to_a_stream_too() -> None:
    app = gateway(rewrites_under_way=1)
    with app._rewrites.of(1):
        assert asked(app, "/v1/detoxify", {"input": "fine", "stream": True}).status_code == 503


@pytest.mark.parametrize("path", ["/v1/detoxify", "/v1/chat/completions"])
def test_a_stream_that_takes_too_long_says_so(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.gateway.ANSWER_SECONDS", 0.2)
    app, rewrite = gateway(), Cutting.rewrite

    async def slower_and_slower(self: Cutting, texts: Any, langs: Any, adapter: str) -> Any:
        await asyncio.sleep(60 if "12" in texts[0] else 0)
        return await rewrite(self, texts, langs, adapter)

    monkeypatch.setattr(Cutting, "rewrite", slower_and_slower)
    text = "You idiot. Read page 12. Thanks."
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if "chat" in path else {"input": text}
    streamed = asked(app, path, {**body, "stream": True})
    events = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert "You ." in events[1]
    assert "took too long" in json.loads(events[-1])["error"]["message"]
    assert app._rewrites.taken == 0


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_client_that_leaves_its_stream_leaves_its_room(version: str) -> None:
    """At once, not when the garbage collector comes; a server of the older protocol says so, of the newer it raises."""
    app = gateway()

    async def leave() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/detoxify", "headers": [], "query_string": b""}
        received = iter([{"type": "http.request", "body": b'{"input": "You idiot. Fine.", "stream": true}'}])

        async def receive() -> Any:
            return next(received, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            if message.get("body"):
                if version == "2.4":
                    raise OSError("gone")
                await asyncio.sleep(60)

        with contextlib.suppress(Exception):
            await app.app({**scope, "asgi": {"spec_version": version}}, receive, send)
        assert app._rewrites.taken == 0

    gc.disable()
    try:
        run(leave())
    finally:
        gc.enable()


def test_a_client_that_leaves_while_it_sends_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/classify", "headers": [], "query_string": b""}
        received = iter([{"type": "http.request", "body": b'{"inp', "more_body": True}])

        async def receive() -> Any:
            return next(received, {"type": "http.disconnect"})

        async def send(message: Any) -> None: ...

        await gateway().app({**scope, "asgi": {"spec_version": "2.3"}}, receive, send)

    run(leave())
    assert not caplog.records


def test_what_there_is_never_room_for_is_too_large() -> None:
    app = gateway(rewrites_under_way=4)
    assert asked(app, "/v1/detoxify", {"input": ["fine"] * 4}).status_code == 200
    for given in (["fine"] * 5, ["fine " * 2000]):
        found = asked(app, "/v1/detoxify", {"input": given})
        assert found.status_code == 413
        assert "At most 4 texts" in found.json()["error"]["message"]
    chat = {"messages": [{"role": "user", "content": "fine " * 2000}]}
    assert asked(app, "/v1/chat/completions", chat).status_code == 413


def test_explain() -> None:
    """One text or several; the model that is named is the one that explained."""
    for given, count in (("you idiot", 1), (["you idiot", "an idiot"], 2)):
        answer = asked(gateway(), "/v1/explain", {"input": given}).json()
        assert [result["spans"][0]["text"] for result in answer["results"]] == ["idiot"] * count
        assert answer["model"]["version"] == "newer"
    assert asked(gateway(), "/v1/explain", {"input": "a", "label": "spam"}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/classify", b"{", 400, "JSON"),
        ("/v1/classify", {"input": "a", "inputs": "b"}, 400, "inputs"),
        ("/v1/classify", {"input": []}, 400, "input"),
        ("/v1/classify", {"input": 5}, 400, "input"),
        ("/v1/classify", {"input": "a" * 50_001}, 413, "input"),
        ("/v1/classify", {"input": ["a"] * 257}, 413, "input"),
        ("/v1/detoxify", {"input": ["a", "b"], "lang": ["en"]}, 400, "lang"),
        ("/v1/detoxify", {"input": ["a", "b"], "stream": True}, 400, "stream"),
        ("/v1/detoxify", {"input": "a", "adapter": "none"}, 404, "there are: formal"),
        ("/v1/explain", {"input": "a" * 5001}, 413, "input"),
        ("/v1/explain", {"input": ["a"] * 9}, 413, "input"),
        ("/v1/nothing", {}, 404, "There is no POST"),
    ],
)
def test_bad_requests(path: str, body: Any, status: int, said: str) -> None:
    found = asked(gateway(), path, body)
    assert found.status_code == status
    assert said in found.text


# Vendors


def test_each_vendors_path_answers_in_its_shape() -> None:
    app = gateway()
    analyzed = asked(
        app, "/v1alpha1/comments:analyze", {"comment": {"text": "You idiot."}, "requestedAttributes": {"INSULT": {}}}
    )
    assert analyzed.json()["attributeScores"]["INSULT"]["summaryScore"]["value"] == pytest.approx(0.9)
    moderated = asked(app, "/v1/moderations", {"input": "you idiot"})
    assert moderated.json()["results"][0]["flagged"]
    assert "sexual/minors" in moderated.headers["x-unjudged-categories"]
    assert asked(app, "/predict", {"inputs": "you idiot"}).json()[0]["label"] == "insult"
    chat = asked(app, "/v1/chat/completions", {"messages": [{"role": "user", "content": "you idiot"}]})
    assert chat.json()["choices"][0]["message"]["content"] == "you"
    assert [row["id"] for row in asked(app, "/v1/models", method="GET").json()["data"]] == ["cutter", "formal"]


def test_the_discovery_document_points_here() -> None:
    found = asked(gateway(), "/$discovery/rest?version=v1alpha1", method="GET").json()
    assert found["rootUrl"] == "http://service/"
    public = gateway(public_url="https://toxicity.example")
    assert asked(public, "/$discovery/rest", method="GET").json()["rootUrl"] == "https://toxicity.example/"
    assert asked(gateway(), "/$discovery/rest?version=v2", method="GET").status_code == 404


def test_suggestions_are_stored_where_prepare_data_can_read_them(tmp_path: Path) -> None:
    """Two replicas, two files, each about another label."""
    for attribute, value in (("TOXICITY", 0), ("INSULT", 1)):
        scores = {attribute: {"summaryScore": {"value": value}}}
        body = {"comment": {"text": f"grüß dich {attribute}"}, "attributeScores": scores, "sessionId": "s"}
        app = gateway(feedback=str(tmp_path / "feedback"))
        assert asked(app, "/v1alpha1/comments:suggestscore", body).status_code == 200
    files = sorted(map(str, (tmp_path / "feedback").glob("*.jsonl")))
    assert len(files) == 2
    [batch] = read(DataSettings(source=tuple(files), label_columns=("toxic", "insult")))
    rows = {row["text"]: (row["toxic"], row["insult"]) for row in batch.rows.to_pylist()}
    assert rows == {"grüß dich TOXICITY": (0.0, None), "grüß dich INSULT": (None, 1.0)}
    kept = json.loads(Path(files[0]).read_text(encoding="utf-8"))
    assert (kept["key"], kept["session"]) == ("anybody", "s")
    assert asked(gateway(), "/v1alpha1/comments:suggestscore", body).status_code == 404


ASKED: dict[str, dict[str, Any]] = {
    "/v1/classify": {"input": ["a", "b"]},
    "/v1/detoxify": {"input": ["a", "b"]},
    "/v1/explain": {"input": "a"},
    "/v1alpha1/comments:analyze": {"comment": {"text": "ab"}, "requestedAttributes": {"TOXICITY": {}}},
    "/v1/moderations": {"input": ["a", "b"]},
    "/predict": {"inputs": [["a"], ["b"]]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
}
BUSY_WORDS: dict[str, tuple[int, str]] = {
    "/v1alpha1/comments:analyze": (503, "UNAVAILABLE"),
    "/v1/moderations": (503, "server_error"),
    "/v1/chat/completions": (503, "server_error"),
    "/predict": (429, "overloaded"),
}
RATE_WORDS: dict[str, str] = {
    "/v1alpha1/comments:analyze": "RATE_LIMIT_EXCEEDED",
    "/v1/moderations": "rate_limit_exceeded",
    "/v1/chat/completions": "rate_limit_exceeded",
    "/predict": "overloaded",
}


@pytest.mark.parametrize("path", ASKED)
def test_a_full_house_answers_in_each_vendors_words(path: str) -> None:
    app = gateway(texts_under_way=1, rewrites_under_way=2, explanations_under_way=1)
    with app._judge.room.of(1), app._rewrites.of(2), app._explanations.of(1):
        found = asked(app, path, ASKED[path])
    status, word = BUSY_WORDS.get(path, (503, "unavailable"))
    assert found.status_code == status
    assert word in found.text
    assert int(found.headers["retry-after"]) >= 1
    assert found.headers["x-decision-id"].startswith("dec-")
    assert asked(app, path, ASKED[path]).status_code == 200


@pytest.mark.parametrize("path", ASKED)
def test_who_asks_too_often_hears_it_in_each_vendors_words(path: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    scopes = ["classify", "detoxify", "explain"]
    entry = {"id": "forum", "sha256": digest("secret"), "scopes": scopes, "per_minute": 1}
    keys.write_text(json.dumps({"keys": [entry]}))
    app, headers = gateway(keys=str(keys)), {"authorization": "Bearer secret"}
    assert asked(app, path, ASKED[path], headers=headers).status_code == 200
    found = asked(app, path, ASKED[path], headers=headers)
    assert found.status_code == 429
    assert RATE_WORDS.get(path, "rate_limited") in found.text
    assert 1 <= int(found.headers["retry-after"]) <= 60


@pytest.mark.parametrize("path", ASKED)
def test_what_takes_too_long_is_told_in_each_vendors_words(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Serve's own limit ends the request in its own."""
    monkeypatch.setattr("serve.gateway.ANSWER_SECONDS", 0.05)
    app = gateway()
    monkeypatch.setattr(WordJudge, "scores", slow)
    monkeypatch.setattr(Cutting, "rewrite", slow)
    monkeypatch.setattr(WordJudge, "explain", slow)
    found = asked(app, path, ASKED[path])
    status, word = BUSY_WORDS.get(path, (503, "unavailable"))
    assert found.status_code == status
    assert word in found.text
    assert "took too long" in found.text
    assert found.headers["retry-after"] == "5"
    assert app._judge.room.taken == app._rewrites.taken == app._explanations.taken == 0


async def slow(*_: Any) -> Any:
    await asyncio.sleep(60)


# Keys, limits, logs


def test_keys_are_taken_wherever_the_vendors_clients_put_them(tmp_path: Path) -> None:
    entry = {"id": "forum", "sha256": digest("secret"), "scopes": ["classify"]}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [entry]}))
    app = gateway(keys=str(tmp_path / "keys.json"))
    body = {"input": "fine"}
    for options in (
        {"headers": {"authorization": "Bearer secret"}},
        {"headers": {"x-goog-api-key": "secret"}},
        {"headers": {"x-api-key": "secret"}},
        {"params": {"key": "secret"}},
    ):
        assert asked(app, "/v1/classify", body, **options).status_code == 200
    assert asked(app, "/v1/classify", body).status_code == 401
    assert asked(app, "/v1/detoxify", body, headers={"x-api-key": "secret"}).status_code == 403
    assert asked(app, "/v1alpha1/comments:analyze", {}, params={"key": "wrong"}).json()["error"]["status"] == (
        "INVALID_ARGUMENT"
    )


def test_a_body_that_is_too_large_is_not_read() -> None:
    assert asked(gateway(most_body_bytes=1024), "/v1/classify", b" " * 2000).status_code == 413


def test_what_fails_is_a_500_without_a_word_of_the_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        found = asked(gateway(), "/v1/detoxify", {"input": "secret words boom"})
    assert found.status_code == 500
    assert "secret" not in caplog.text + found.text
    assert "RuntimeError" in caplog.text
    assert found.headers["x-decision-id"] in caplog.text
    assert found.headers["x-decision-id"] in found.json()["error"]["message"]


def test_other_origins_may_not_call_unless_they_are_named() -> None:
    """The page that the service itself serves may; a page of another origin neither asks nor teaches."""
    origin = {"origin": "https://forum.example"}
    refused = asked(gateway(), "/v1/classify", {"input": "a"}, headers=origin)
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    own = {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}
    assert asked(gateway(), "/v1/classify", {"input": "a"}, headers=own).status_code == 200
    rebound = {"origin": "http://evil.example", "host": "evil.example"}  # a name of theirs that leads here
    assert asked(gateway(), "/v1/classify", {"input": "a"}, headers=rebound).status_code == 403
    for odd in ("http://[", "null", "http://"):
        assert asked(gateway(), "/v1/classify", {"input": "a"}, headers={"origin": odd, "host": ""}).status_code == 403
    known = gateway(public_url="https://scores.example")
    public = {"origin": "https://scores.example", "host": "scores.example"}
    assert asked(known, "/v1/classify", {"input": "a"}, headers=public).status_code == 200
    named = gateway(cors_origins=("https://forum.example",))
    assert asked(named, "/v1/classify", {"input": "a"}, headers=origin).headers["access-control-allow-origin"]


def test_paths_that_there_are_not_answer_in_the_words_of_their_api() -> None:
    app = gateway()
    assert asked(app, "/v1/chat/nothing", {}).json()["error"]["type"] == "invalid_request_error"
    assert asked(app, "/v1alpha1/comments:nothing", {}).json()["error"]["status"] == "NOT_FOUND"
    assert asked(app, "/v1/classify", method="PUT").json()["error"]["type"] == "not_found"


def test_openapi_describes_every_path() -> None:
    app = gateway()
    found = asked(app, "/openapi.json", method="GET").json()
    others = {"/", "/page.css", "/page.js", "/openapi.json", "/{path:path}"}
    assert {route.path for route in app.app.routes if isinstance(route, Route)} - others == found["paths"].keys()
    text = json.dumps(found)
    for reference in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert reference in found["components"]["schemas"]


def test_the_page_and_nothing_else_of_the_disk() -> None:
    app = gateway()
    page = asked(app, "/", method="GET")
    assert "<textarea" in page.text
    for rule in ("default-src 'none'", "form-action 'none'"):
        assert rule in page.headers["content-security-policy"]
    assert not re.search(r"<(textarea|input)[^>]* name=", page.text)  # what has a name a form would send
    assert asked(app, "/page.js", method="GET").status_code == 200
    for path in ("/index.html", "/../keys.py", "/%2e%2e/keys.py", "/page/page.js"):
        assert asked(app, path, method="GET").status_code == 404
    info = asked(app, "/info", method="GET").json()
    assert info["model"]["labels"] == list(LABELS)
    assert info["rewriter"]["name"] == "cutter"
    assert "sexual/minors" in info["unjudged_categories"]
    assert "harassment" not in info["unjudged_categories"]
    assert asked(app, "/health", method="GET").json() == {"status": "ok"}

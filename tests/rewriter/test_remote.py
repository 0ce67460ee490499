"""The remote rewriter against a real server on this machine: order, retries, time-outs, bad answers, budget, key."""

from __future__ import annotations

import email.utils
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from detox.rewriter.remote import BudgetError, RemoteError, RemoteRewriter
from detox.rewriter.remote_request import retry_after
from detox.rewriter.remote_settings import RemoteLimits, RemoteSettings
from detox.runs.config import to_json
from tests.rewriter.chat_server import Asked, ChatServer, Reply, chat_server, completion

Serve = Callable[..., ChatServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(reply, reply, …)`: a server that answers with these in turn, the last one for ever; a reply may be a
    function of the request."""
    servers = []

    def start(*replies: Any) -> ChatServer:
        left = list(replies)

        def reply(asked: Asked) -> Reply:
            one = left.pop(0) if len(left) > 1 else left[0]
            return one(asked) if callable(one) else one

        context = chat_server(reply)
        servers.append(context)
        return context.__enter__()

    yield start
    for context in servers:
        context.__exit__(None, None, None)


def remote(server: ChatServer, limits: dict[str, Any] | None = None, **changes: Any) -> RemoteRewriter:
    """Retries come after milliseconds here."""
    quick = RemoteLimits(**({"backoff": 0.002, "retries": 2, "timeout": 5.0, "concurrency": 2} | (limits or {})))
    settings = {"base_url": server.base_url, "model": "qwen", "prompt": "{lang}: {text}"} | changes
    return RemoteRewriter(RemoteSettings(limits=quick, **settings))


def upper(asked: Asked) -> Reply:
    return completion(asked.content.upper())


def failure(rewriter: RemoteRewriter, *texts: str) -> RemoteError:
    with pytest.raises(RemoteError) as raised:
        rewriter.candidates(list(texts) or ["a"], ["en"] * max(1, len(texts)))
    return raised.value


def test_each_text_is_asked_for_and_the_order_kept(serve: Serve) -> None:
    """The first answers come last."""
    server = serve(lambda asked: upper(asked)._replace(delay=0.05 if "0" in asked.content else 0.0))
    texts = [f"text {n}" for n in range(6)]
    found = remote(server, {"concurrency": 3}).candidates(texts, ["en"] * 5 + [""])
    assert found == [(f"EN: TEXT {n}",) for n in range(5)] + [("UND: TEXT 5",)]
    assert len(server.asked) == 6
    assert {asked.path for asked in server.asked} == {"/v1/chat/completions"}
    body = next(asked.body for asked in server.asked if asked.content == "en: text 1")
    assert body == {
        "model": "qwen",
        "messages": [{"role": "user", "content": "en: text 1"}],
        "temperature": 0.0,
        "max_tokens": 1024,
    }
    assert remote(server).candidates([], []) == []


def test_no_more_requests_at_a_time_than_allowed(serve: Serve) -> None:
    server = serve(lambda asked: upper(asked)._replace(delay=0.02))
    remote(server, {"concurrency": 3}).candidates([str(n) for n in range(9)], ["en"] * 9)
    assert 2 <= server.most_at_once <= 3


def test_a_prompt_is_filled_once(serve: Serve) -> None:
    """What looks like a slot in the text stays as it is."""
    server = serve(upper)
    remote(server, prompt="say {text} in {lang}").candidates(["{lang} {text}"], ["de"])
    assert server.asked[0].content == "say {lang} {text} in de"


def test_several_candidates(serve: Serve) -> None:
    """Distinct, in their order, without the one that was cut off and the one that is empty."""
    server = serve(completion(" b ", "a", "b", ""))
    assert remote(server, candidates=4, temperature=0.7).candidates(["x"], ["en"]) == [("b", "a")]
    assert (server.asked[0].body["n"], server.asked[0].body["temperature"]) == (4, 0.7)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(serve: Serve, status: int) -> None:
    server = serve(Reply(status), Reply(status), upper)
    assert remote(server).candidates(["a"], ["en"]) == [("EN: A",)]
    assert len(server.asked) == 3


def test_an_endpoint_that_fails_for_ever_is_an_error(serve: Serve) -> None:
    """Three tries of text 1; text 2 and those after it are given up."""
    server = serve(lambda asked: Reply(500, b"out of memory") if "1" in asked.content else upper(asked))
    error = failure(remote(server, {"concurrency": 1}), "text 0", "text 1", "text 2", "text 3")
    assert (error.position, error.status) == (1, 500)
    assert "text 1 was not rewritten: " in str(error)
    assert "/chat/completions answered with status 500, 3 times (out of memory): try again later" in str(error)
    assert [asked.content for asked in server.asked].count("en: text 1") == 3
    assert len(server.asked) < 7


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (400, "check the settings"),
        (401, "check whether a key is wanted"),
        (404, "check base_url and model"),
        (301, "c"),
    ],
)
def test_other_refusals_are_final(serve: Serve, status: int, remedy: str) -> None:
    server = serve(Reply(status, b'{"error": {"message": "no"}}'))
    error = failure(remote(server))
    assert (error.status, len(server.asked)) == (status, 1)
    assert remedy in error.remedy


def test_retry_after_is_honoured(serve: Serve) -> None:
    server = serve(Reply(429, headers=(("Retry-After", "0.3"),)), upper)
    began = time.monotonic()
    remote(server).candidates(["a"], ["en"])
    assert time.monotonic() - began >= 0.3


def test_an_endpoint_that_asks_for_too_long_a_wait_has_failed(serve: Serve) -> None:
    server = serve(Reply(429, headers=(("Retry-After", "3600"),)))
    error = failure(remote(server))
    assert (error.status, len(server.asked)) == (429, 1)
    assert "times" not in error.reason
    assert error.remedy == "it asks to wait 3600 s: try again then, or raise limits.longest_wait"


def test_retry_after_as_seconds_or_date() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({}) == retry_after({"retry-after": "soon"}) == retry_after({"retry-after": "-3"}) == 0
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 98 <= retry_after({"retry-after": date}) <= 100
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0


@pytest.mark.parametrize("reply", [Reply(delay=0.5), completion("b" * 50)._replace(delay=0.03, drips=20)])
def test_a_slow_answer_is_an_error(serve: Serve, reply: Reply) -> None:
    """Silence, or an answer in drops, each of which comes in time."""
    server = serve(reply)
    error = failure(remote(server, {"timeout": 0.15, "retries": 1}))
    assert error.status is None
    assert "gave no whole answer within 0.15 s, 2 times: raise limits.timeout" in str(error)
    assert len(server.asked) == 2


def test_no_server_is_an_error(serve: Serve) -> None:
    server = serve(upper)
    server.close()
    error = failure(remote(server, {"retries": 0}))
    assert error.status is None
    assert "cannot be reached" in str(error)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [{"message": {"content": [1]}}]}', b"\xff"]
)
def test_what_is_no_chat_completion_is_an_error(serve: Serve, body: bytes) -> None:
    error = failure(remote(serve(Reply(body=body))))
    assert error.status == 200
    assert "what is no chat completion" in str(error)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (completion(""), "the answer is empty (finish_reason: stop)"),
        (completion(None, finish_reason="content_filter"), "the answer is empty (finish_reason: content_filter)"),
        (completion("half a", finish_reason="content_filter"), "broken off (finish_reason: content_filter)"),
        (completion(" \n"), "the answer is empty"),
        (completion(), "the answer is empty (finish_reason: no choices)"),
        (completion("half a sent", finish_reason="length"), "the answer was cut off at its length limit"),
    ],
)
def test_an_answer_without_a_whole_text_is_an_error(serve: Serve, reply: Reply, said: str) -> None:
    error = failure(remote(serve(reply)))
    assert error.status == 200
    assert said in str(error)


def test_the_budget_of_requests(serve: Serve) -> None:
    """Three requests are allowed: two texts, and the first of two more. Retries count."""
    server = serve(upper)
    rewriter = remote(server, {"most_requests": 3, "concurrency": 1})
    rewriter.candidates(["a", "b"], ["en", "en"])
    error = failure(rewriter, "c", "d")
    assert isinstance(error, BudgetError)
    assert error.position == 1
    assert "the budget of 3 requests (limits.most_requests) is used up: raise it" in str(error)
    assert len(server.asked) == 3
    busy = serve(Reply(500))
    assert "the budget of 2 requests" in str(failure(remote(busy, {"most_requests": 2, "retries": 9})))
    assert len(busy.asked) == 2


def test_the_budget_of_tokens(serve: Serve) -> None:
    """Ten tokens an answer: 20 pay for two texts, and the third is not asked for; with 15 the second one exceeds it."""
    server = serve(upper)
    rewriter = remote(server, {"most_tokens": 20, "concurrency": 1})
    rewriter.candidates(["a", "b"], ["en", "en"])
    assert "the budget of 20 tokens (limits.most_tokens; 20 were spent) is used up" in str(failure(rewriter, "c"))
    assert len(server.asked) == 2
    error = failure(remote(server, {"most_tokens": 15, "concurrency": 1}), "a", "b", "c")
    assert (error.position, "20 were spent" in str(error)) == (1, True)


def test_uncounted_tokens_cost_a_byte_each(serve: Serve) -> None:
    server = serve(completion("b", tokens=None))
    assert "tokens" in str(failure(remote(server, {"most_tokens": 100}), "a" * 100))
    assert remote(server, {"most_tokens": 1000}).candidates(["a"], ["en"]) == [("b",)]


def test_the_key_goes_to_the_endpoint_and_nowhere_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret\n")
    server = serve(upper, Reply(401, b"wrong key sk-secret"))
    rewriter = remote(server, api_key_env="MY_KEY")
    rewriter.candidates(["a"], ["en"])
    assert server.asked[0].headers["authorization"] == "Bearer sk-secret"
    error = failure(rewriter)
    assert "wrong key [KEY]): check the key in MY_KEY" in str(error)
    assert "secret" not in to_json(rewriter.settings) + str(error) + repr(error)
    remote(server, api_key_env="").candidates([], [])


def test_no_key_is_sent_where_none_is_named(serve: Serve) -> None:
    server = serve(upper)
    remote(server).candidates(["a"], ["en"])
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": ""}, "must begin with http:// or https://"),
        ({"base_url": "localhost:8000/v1"}, "must begin with http"),
        ({"base_url": "http://[::"}, "must begin with http"),
        ({"base_url": "https://user:key@host/v1"}, "must hold no password"),
        ({"base_url": "https://host/v1?key=1"}, "must hold no password and no query"),
        ({"model": ""}, "no model of http://host/v1 is named"),
        ({"api_key_env": "DETOX_ABSENT_KEY"}, "environment variable DETOX_ABSENT_KEY is not set"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, str], said: str) -> None:
    settings = {"base_url": "http://host/v1", "model": "m"} | changes
    with pytest.raises(ValueError, match=said):
        RemoteRewriter(RemoteSettings(**settings))


def test_a_key_in_place_of_its_name_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="must be the name of an environment variable") as raised:
        RemoteRewriter(RemoteSettings(base_url="http://host/v1", model="m", api_key_env="sk-secret"))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk-sécret"])
def test_what_is_no_key_is_not_repeated(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ValueError, match="environment variable MY_KEY holds no key") as raised:
        RemoteRewriter(RemoteSettings(base_url="http://host/v1", model="m", api_key_env="MY_KEY"))
    assert "cret" not in str(raised.value)


def test_a_prompt_must_hold_the_text() -> None:
    with pytest.raises(ValueError, match=r"put \{text\} into it"):
        RemoteSettings(prompt="rewrite it")


def test_an_error_travels_and_moves() -> None:
    error = BudgetError(3, None, "why", "what to do")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (BudgetError, str(error))
    assert str(error.at(7)) == "text 7 was not rewritten: why: what to do"
    assert isinstance(error.at(7), BudgetError)


def test_long_texts_are_cut() -> None:
    settings = RemoteSettings(base_url="http://host/v1", model="m", max_source_chars=20)
    assert RemoteRewriter(settings).too_long(["x" * 20, "x" * 21], ["en", "en"]) == [False, True]

"""Chat completions: which message is the text, which model is asked for, and what is refused rather than ignored."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve.chat import complete, complete_by_sentence, models, parsed
from serve.errors import ApiError
from tests.serve.rewriters import Cutting

USER = {"role": "user", "content": "You idiot. Read page 12."}


def asked(messages: list[Any], **more: Any) -> bytes:
    return json.dumps({"messages": messages, **more}).encode()


def test_the_last_message_of_the_user_is_the_text() -> None:
    answer = {"role": "assistant", "content": "idiot"}
    messages = [{"role": "system", "content": "be rude"}, {"role": "user", "content": "first"}, answer, USER, answer]
    assert parsed(asked(messages), Cutting()) == ("You idiot. Read page 12.", "", False)
    parts = [{"type": "text", "text": "You"}, {"type": "text", "text": "idiot."}]
    assert parsed(asked([{"role": "user", "content": parts}], stream=True), Cutting()) == ("You\nidiot.", "", True)


@pytest.mark.parametrize(("model", "adapter"), [("", ""), ("cutter", ""), ("formal", "formal")])
def test_a_model_is_the_rewriter_or_one_of_its_adapters(model: str, adapter: str) -> None:
    request = parsed(asked([USER], model=model), Cutting())
    assert request.adapter == adapter
    answer = asyncio.run(complete(request, Cutting()))
    assert answer["model"] == (model or "cutter")
    assert answer["choices"][0]["message"]["content"] == "You . Read page 12."
    assert answer["detox"]["how"] == "edited"
    assert [row["id"] for row in models(Cutting())["data"]] == ["cutter", "formal"]


@pytest.mark.parametrize(
    ("messages", "more", "said"),
    [
        ([USER], {"n": 2}, "'n' must be 1, was 2"),
        ([USER], {"tools": [{"type": "function"}]}, "'tools' is not supported"),
        ([USER], {"functions": [{}]}, "'functions' is not supported"),
        ([USER], {"logprobs": True}, "'logprobs' is not supported"),
        ([USER], {"response_format": {"type": "json_object"}}, "'response_format' is not supported"),
        ([USER], {"model": "gpt-5"}, "'gpt-5' does not exist: choose one of cutter, formal"),
        ([], {}, "Invalid value for 'messages'"),
        ([{"role": "system", "content": "a"}], {}, "must have one of the role 'user'"),
        ([{"role": "user", "content": 3}], {}, "'content' must be a text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], {}, "Images are not supported"),
        ([{"role": "user", "content": "a" * 50_001}], {}, "at most 50,000 characters"),
    ],
)
def test_what_a_rewriter_cannot_do_is_refused(messages: list[Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        parsed(asked(messages, **more), Cutting())


def test_what_changes_nothing_is_accepted() -> None:
    parsed(asked([USER], temperature=0.2, n=None, tools=[], response_format={"type": "text"}, seed=3), Cutting())


def test_a_stream_has_a_head_a_chunk_a_sentence_and_an_end() -> None:
    async def chunks() -> list[bytes]:
        return [chunk async for chunk in complete_by_sentence(parsed(asked([USER]), Cutting()), Cutting())]

    *found, done = asyncio.run(chunks())
    told = [json.loads(chunk.removeprefix(b"data: "))["choices"][0] for chunk in found]
    assert told[0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["delta"]["content"] for one in told[1:-1]] == ["You . ", "Read page 12."]
    assert (told[-1]["finish_reason"], done) == ("stop", b"data: [DONE]\n\n")

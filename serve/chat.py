"""OpenAI's `POST /v1/chat/completions` and `GET /v1/models`, behind which the rewriter stands.

The last message of the user is the text; what stands before it, a system prompt above all, is accepted and ignored:
this model does one thing. What it cannot do (several choices, tools, formats, log-probabilities, images) is refused.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Literal, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serve.errors import ApiError, validated
from serve.events import DONE, event
from serve.limits import ListOf
from serve.openai_messages import Part, text_of_parts
from serve.rewriting import Rewriting, by_sentence


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    role: str
    content: Any = None
    """Of the user's last message a text or typed parts; of others anything."""


class ChatRequest(BaseModel):
    """What the client sends. Settings of sampling are accepted and ignored: those of the rewriter hold."""

    model_config = ConfigDict(extra="ignore", strict=True)
    messages: Annotated[ListOf[ChatMessage], Field(min_length=1)]
    model: str = ""
    """The rewriter's name, or that of one of its adapters."""
    stream: bool | None = False
    n: int | None = 1
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop"]
    logprobs: None


class ChatResponse(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: dict[str, int]
    detox: dict[str, Any] = Field(description="Not OpenAI's: how the rewrite was made.")


_CONTENT: TypeAdapter[Any] = TypeAdapter(str | ListOf[Part])


class Completion(NamedTuple):
    """What is asked for."""

    text: str
    adapter: str
    """Of the rewriter; empty: the rewriter itself."""
    is_streamed: bool


def parsed(body: bytes, rewriting: Rewriting) -> Completion:
    """Raises:
    ApiError: not JSON, a body of the wrong shape, no model of this name, or something that a rewriter cannot do.
    """
    request = validated(ChatRequest, body, _refusal)
    if request.n not in (None, 1):
        raise ApiError("invalid", f"'n' must be 1, was {request.n}: a text has one rewrite.", param="n")
    others: dict[str, Any] = {"tools": request.tools, "functions": request.functions, "logprobs": request.logprobs}
    if (request.response_format or {}).get("type", "text") != "text":
        others["response_format"] = request.response_format
    for name, value in others.items():
        if value:
            raise ApiError("invalid", f"'{name}' is not supported: this model rewrites texts.", param=name)
    return Completion(_text(request), _adapter(request.model, rewriting), bool(request.stream))


def _refusal(place: str, fault: Mapping[str, Any]) -> ApiError:
    return ApiError("invalid", f"Invalid value for '{place or 'the body'}': {fault['msg']}.", param=place)


def _text(request: ChatRequest) -> str:
    """The last message of the user."""
    contents = [message.content for message in request.messages if message.role == "user"]
    if not contents:
        raise ApiError("invalid", "'messages' must have one of the role 'user', which is rewritten.", param="messages")
    try:
        content = _CONTENT.validate_python(contents[-1])
    except ValidationError:
        raise ApiError("invalid", "'content' must be a text, or a list of typed parts.", param="messages") from None
    return text_of_parts(content, "messages")


def _adapter(model: str, rewriting: Rewriting) -> str:
    if model in ("", rewriting.model.name):
        return ""
    if model in rewriting.model.adapters:
        return model
    known = ", ".join((rewriting.model.name, *rewriting.model.adapters))
    message = f"The model '{model}' does not exist: choose one of {known}."
    raise ApiError("not_found", message, param="model", code="model_not_found")


async def complete(asked: Completion, rewriting: Rewriting) -> dict[str, Any]:
    """The answer: one choice, the rewrite, and how it was made beside it."""
    model, [rewrite] = await rewriting.rewrite([asked.text], [""], asked.adapter)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": rewrite.text, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    facts = {key: value for key, value in rewrite._asdict().items() if key != "text"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return _head("chat.completion", model.served(asked.adapter)["name"]) | {
        "choices": [choice],
        "usage": usage,
        "detox": facts,
    }


async def complete_by_sentence(asked: Completion, rewriting: Rewriting) -> AsyncGenerator[bytes]:
    """Chunks of a sentence each, once it is reranked."""
    head: dict[str, Any] = {}

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})

    async for model, rewrite in by_sentence(rewriting, asked.text, "", asked.adapter):
        if not head:
            head = _head("chat.completion.chunk", model.served(asked.adapter)["name"])
            yield chunk({"role": "assistant", "content": ""})
        yield chunk({"content": rewrite.text})
    yield chunk({}, "stop")
    yield DONE


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def models(rewriting: Rewriting) -> dict[str, Any]:
    """The answer to `GET /v1/models`."""
    names = (rewriting.model.name, *rewriting.model.adapters)
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "toxicity-lab"} for name in names]
    return {"object": "list", "data": data}

"""OpenAI's `POST /v1/chat/completions` and `GET /v1/models`, behind which the rewriter stands.

The last message of the user is the text; what stands before it, a system prompt above all, is taken and not heeded:
this model does one thing. What it cannot do (several choices, tools, images) is refused rather than ignored.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serve.errors import ApiError, first_fault
from serve.limits import check_text
from serve.moderations import Part, TextPart
from serve.native import event
from serve.rewriting import Rewriting


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    role: str
    content: Any = None
    """Of the user's last message a text or typed parts; of others anything."""


class ChatRequest(BaseModel):
    """What the client sends. Settings of sampling are taken and not heeded: those of the rewriter hold."""

    model_config = ConfigDict(extra="ignore", strict=True)
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str = ""
    """The rewriter's name, or that of one of its adapters."""
    stream: bool | None = False
    n: int | None = 1
    tools: list[Any] | None = None


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


_REQUEST = TypeAdapter(ChatRequest)
_CONTENT: TypeAdapter[Any] = TypeAdapter(str | list[Part])


def parsed(body: bytes) -> ChatRequest:
    """Raises:
    ApiError: not JSON, a body of the wrong shape, or something that a rewriter cannot do.
    """
    try:
        request: ChatRequest = _REQUEST.validate_json(body)
    except ValidationError as error:
        place, fault = first_fault(error)
        raise ApiError("invalid", f"Invalid value for '{place}': {fault['msg']}.", param=place) from None
    if request.n not in (None, 1):
        raise ApiError("invalid", f"'n' must be 1, was {request.n}: a text has one rewrite.", param="n")
    if request.tools:
        raise ApiError("invalid", "'tools' are not supported: this model rewrites texts.", param="tools")
    return request


def text_of(request: ChatRequest) -> str:
    """The last message of the user.

    Raises:
        ApiError: there is none, it has an image, or it is too long.
    """
    said = [message.content for message in request.messages if message.role == "user"]
    if not said:
        raise ApiError("invalid", "'messages' must have one of the role 'user', which is rewritten.", param="messages")
    try:
        content = _CONTENT.validate_python(said[-1])
    except ValidationError:
        raise ApiError("invalid", "'content' must be a text, or a list of typed parts.", param="messages") from None
    if not isinstance(content, str):
        if any(not isinstance(part, TextPart) for part in content):
            raise ApiError("invalid", "Images are not rewritten: 'content' must be text.", param="messages")
        content = "\n".join(part.text for part in content)
    check_text(content, "messages")
    return content


def adapter_of(request: ChatRequest, rewriting: Rewriting) -> str:
    """Raises:
    ApiError: no model of this name.
    """
    if request.model in ("", rewriting.model.name):
        return ""
    if request.model in rewriting.model.adapters:
        return request.model
    known = ", ".join((rewriting.model.name, *rewriting.model.adapters))
    message = f"The model '{request.model}' does not exist: choose one of {known}."
    raise ApiError("not_found", message, param="model", code="model_not_found")


async def complete(request: ChatRequest, rewriting: Rewriting) -> dict[str, Any]:
    """The answer: one choice, the rewrite, and how it was made beside it."""
    text, adapter = text_of(request), adapter_of(request, rewriting)
    [rewrite] = await rewriting.rewrite([text], [""], adapter)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": rewrite.text, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    facts = {key: value for key, value in rewrite._asdict().items() if key != "text"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return _head("chat.completion", adapter or rewriting.model.name) | {
        "choices": [choice],
        "usage": usage,
        "detox": facts,
    }


async def complete_by_sentence(request: ChatRequest, rewriting: Rewriting) -> AsyncIterator[bytes]:
    """Chunks of a sentence each, once it is reranked."""
    text, adapter = text_of(request), adapter_of(request, rewriting)
    head = _head("chat.completion.chunk", adapter or rewriting.model.name)

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})

    yield chunk({"role": "assistant", "content": ""})
    async for rewrite in rewriting.by_sentence(text, "", adapter):
        yield chunk({"content": rewrite.text})
    yield chunk({}, "stop")
    yield b"data: [DONE]\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def models(rewriting: Rewriting) -> dict[str, Any]:
    """The answer to `GET /v1/models`."""
    names = (rewriting.model.name, *rewriting.model.adapters)
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "toxicity-lab"} for name in names]
    return {"object": "list", "data": data}

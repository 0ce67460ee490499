"""What all paths of the gateway have in common of HTTP: bodies that are not too large, answers and refusals with their
ids, and streams that end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.errors import ApiError
from serve.native import decision_id

DECISION, VERSION = "x-decision-id", "x-model-version"
REQUEST = "x-request-id"
"""The decision again, where OpenAI's clients look for it."""
Words = Callable[[ApiError], tuple[int, dict[str, Any]]]
"""An API's own words for an error: status and body."""
ANSWERING: ContextVar[str] = ContextVar("answering", default="")
"""Version of the model that answered this request; set where a model is asked."""


def decided(answer: dict[str, Any]) -> Response:
    """One of our own answers, whose headers say what its body says."""
    return JSONResponse(answer, headers={DECISION: answer["decision"], VERSION: answer["model"]["version"]})


def with_ids(response: Response) -> Response:
    """With a decision id and the model's version, for which the vendors' bodies have no place."""
    response.headers.setdefault(DECISION, decision_id())
    response.headers[REQUEST] = response.headers[DECISION]
    if version := ANSWERING.get():
        response.headers.setdefault(VERSION, version)
    return response


async def body_of(request: Request, most: int) -> bytes:
    """Raises:
    ApiError: more bytes than are read.
    """
    length = request.headers.get("content-length", "")
    too_large = ApiError("too_large", f"The body must have at most {most:,} bytes.")
    if length.isdigit() and int(length) > most:
        raise too_large
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > most:
            raise too_large
    return bytes(received)


def refusal(error: ApiError, words: Words, decision: str = "") -> Response:
    status, body = words(error)
    decision = decision or decision_id()
    return JSONResponse(body, status, headers={**error.headers(), DECISION: decision, REQUEST: decision})


class EventStream(StreamingResponse):
    """Server-sent events.

    Args:
        end: called once nothing more is sent: the stream is over, has failed, or its client has left.
    """

    def __init__(self, events: AsyncIterator[bytes], end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._end()

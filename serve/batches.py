"""Several of Perspective's requests in one, as Google's clients send them (`new_batch_http_request` in Python).

`POST /batch` has the type `multipart/mixed`, each part of it a request as text (`application/http`); so has the answer,
in the same order. Each part is a request like any other: its key, its rate, its limits and its errors are its own.
"""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from email.message import Message
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from serve.errors import ApiError

MOST_PARTS = 1000
"""Google's clients send no more."""
PREFIX = "/v1alpha1/"
"""Of the paths that a part may ask."""


async def answered(request: Request, body: bytes, app: ASGIApp) -> Response:
    """The answers of all parts.

    Args:
        app: answers each.

    Raises:
        ApiError: not a batch, or too many parts.
    """
    parts = _parts(request.headers.get("content-type", ""), body)
    # what is said of the whole batch, such as who asks, is said of each part that does not say otherwise
    common = {name: value for name, value in request.headers.items() if not name.startswith("content-")}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=str(request.base_url)) as client:
        answers = await asyncio.gather(*(_answer(part, client, common) for part in parts))
    boundary = f"batch_{uuid4().hex}"
    shown = b"".join(
        b"--%b\r\n%b\r\n" % (boundary.encode(), _shown(part, answer))
        for part, answer in zip(parts, answers, strict=True)
    )
    return Response(shown + f"--{boundary}--\r\n".encode(), media_type=f'multipart/mixed; boundary="{boundary}"')


def _parts(content_type: str, body: bytes) -> list[Message]:
    """Raises:
    ApiError: no multipart body, or too many parts.
    """
    whole = message_from_bytes(b"content-type: %b\r\n\r\n%b" % (content_type.encode("latin-1", "replace"), body))
    parts = whole.get_payload()
    if whole.get_content_type() != "multipart/mixed" or not isinstance(parts, list) or not parts:
        raise ApiError("invalid", "A batch is a body of the type multipart/mixed, each part of it a request.")
    if len(parts) > MOST_PARTS:
        raise ApiError("invalid", f"A batch may have {MOST_PARTS:,} requests, this one has {len(parts):,}.")
    return [part for part in parts if isinstance(part, Message)]


async def _answer(part: Message, client: httpx.AsyncClient, common: dict[str, str]) -> httpx.Response:
    payload = part.get_payload(decode=True)
    line, _, rest = (payload if isinstance(payload, bytes) else b"").partition(b"\n")
    method, target, *_ = [*line.decode("latin-1").split(), "", ""]
    path = urlsplit(target)._replace(scheme="", netloc="")
    if not path.path.startswith(PREFIX):
        path = urlsplit(f"{PREFIX}nothing")  # which says so in the vendor's words
    asked = message_from_bytes(rest)
    content = asked.get_payload(decode=True)
    own = {name.casefold(): value for name, value in asked.items()}
    headers = common | {name: own[name] for name in ("authorization", "x-goog-api-key", "content-type") if name in own}
    return await client.request(
        method if method in ("GET", "POST") else "POST",
        path.geturl(),
        content=content if isinstance(content, bytes) else b"",
        headers=headers,
    )


def _shown(part: Message, answer: httpx.Response) -> bytes:
    """A part of the answer; clients tell by `Content-ID` whose it is."""
    named = str(part.get("Content-ID", "")).strip().replace("\r", "").replace("\n", "")
    lines = ["Content-Type: application/http"]
    if named:
        lines.append(f"Content-ID: <response-{named.removeprefix('<')}")
    lines += ["", f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + answer.content

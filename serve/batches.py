"""Several of Perspective's requests in one, as Google's clients send them (`new_batch_http_request` in Python).

`POST /batch` has the type `multipart/mixed`, each part of it a request as text (`application/http`); so has the answer,
in the same order. Each part is a request like any other: its key (where it has none, that of the whole), its rate, its
limits and its errors are its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from email.message import Message
from email.parser import BytesHeaderParser
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from serve.errors import ApiError
from serve.keys import KEY_HEADERS

MOST_PARTS = 1000
"""Google's clients send no more."""
PATHS = ("/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore")
"""What a part may ask; any other is answered as a path that there is not."""
NOTHING = "/v1alpha1/nothing"
KEYS = tuple(name.encode() for name in KEY_HEADERS)
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
ID = re.compile(r"<[\x20-\x3b\x3d\x3f-\x7e]*>")


class Part(NamedTuple):
    """A request of the batch."""

    content_id: str
    """Clients tell by it which answer is whose; empty: none."""
    path: str
    key: str
    """Of its query."""
    headers: dict[bytes, bytes]
    """Those of `KEYS` that it has."""
    body: bytes


async def answered(request: Request, body: bytes, app: ASGIApp) -> Response:
    """The answers of all parts.

    Args:
        app: answers each.

    Raises:
        ApiError: not a batch, or too many parts.
    """
    parts = [parsed(section) for section in sections(request.headers.get("content-type", ""), body)]
    asking = dict(request.headers.raw)
    origin = {name: asking[name] for name in asking if name == b"origin"}
    key, keys = request.query_params.get("key", ""), {name: asking[name] for name in KEYS if name in asking}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=str(request.base_url)) as client:

        async def answer(part: Part) -> httpx.Response:
            own = part if part.key or part.headers else part._replace(key=key, headers=keys)
            params = {"key": own.key} if own.key else {}
            headers = list((origin | own.headers).items())
            return await client.post(part.path, params=params, headers=headers, content=part.body)

        answers = await asyncio.gather(*map(answer, parts))
    boundary = f"batch_{uuid4().hex}"
    shown = b"".join(f"--{boundary}\r\n".encode() + _shown(*row) + b"\r\n" for row in zip(parts, answers, strict=True))
    return Response(shown + f"--{boundary}--\r\n".encode(), media_type=f'multipart/mixed; boundary="{boundary}"')


def sections(content_type: str, body: bytes) -> Sequence[bytes]:
    """The parts of a multipart body, each with its headers.

    Raises:
        ApiError: no such body, or too many parts.
    """
    said = Message()
    said["content-type"] = content_type
    boundary = said.get_boundary("") if said.get_content_type() == "multipart/mixed" else ""
    found = (b"\n" + body).split(b"\n--" + boundary.encode("utf-8", "replace"), MOST_PARTS + 2)[1:]
    if boundary and len(found) > MOST_PARTS + 1:
        raise ApiError("invalid", f"A batch may have {MOST_PARTS:,} requests, this one has more.")
    if found and found[-1].startswith(b"--"):
        found.pop()
    if not boundary or not found:
        raise ApiError("invalid", "A batch is a body of the type multipart/mixed, each part of it a request.")
    return found


def parsed(section: bytes) -> Part:
    """What a part asks; where it is no request, it asks for a path that there is not."""
    about, request = _halves(section.removeprefix(b"\r").removeprefix(b"\n"))
    line, _, rest = request.partition(b"\n")
    method, target, *_ = [*line.decode("latin-1").split(), "", ""]
    try:
        url = urlsplit(target)
    except ValueError:  # "http://[", say
        url = urlsplit("")
    lines, body = _halves(rest)
    headers = _headers(lines)
    given = ID.fullmatch(" ".join(str(_headers(about).get("content-id", "")).split()))  # a long one is folded
    return Part(
        content_id=given[0] if given else "",
        path=url.path if method == "POST" and url.path in PATHS else NOTHING,
        key=parse_qs(url.query).get("key", [""])[0],
        headers={
            name: str(value).encode("utf-8", "surrogateescape")
            for name in KEYS
            if (value := headers.get(name.decode()))
        },
        body=body,
    )


def _halves(text: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the first blank line."""
    before, *behind = BLANK_LINE.split(text, maxsplit=1)
    return before, behind[0] if behind else b""


def _headers(lines: bytes) -> Message:
    return BytesHeaderParser().parsebytes(lines)


def _shown(part: Part, answer: httpx.Response) -> bytes:
    """A part of the answer."""
    lines = ["Content-Type: application/http"]
    if part.content_id:
        lines.append(f"Content-ID: <response-{part.content_id.removeprefix('<')}")
    lines += ["", f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + answer.content

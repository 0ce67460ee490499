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
from serve.keys import KEY_HEADERS, Keys, secret_of

MOST_PARTS = 1000
"""Google's clients send no more."""
PATHS = ("/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore")
"""What a part may ask; any other is answered as a path that there is not."""
NOTHING = "/v1alpha1/nothing"
MOST_HEAD_BYTES = 16_384
"""Of a request's line and headers; one with more is no request."""
AT_A_TIME = 64
"""Parts that are answered together."""
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

    def secret(self) -> str:
        return secret_of({name.decode(): value.decode("latin-1") for name, value in self.headers.items()}, self.key)


async def answered(request: Request, body: bytes, app: ASGIApp, keys: Keys) -> Response:
    """The answers of all parts.

    Args:
        app: answers each.
        keys: one of which a part must have, if there are any, before the first is asked.

    Raises:
        ApiError: not a batch, too many parts, or no key that anybody has.
    """
    asking = dict(request.headers.raw)
    key, whole = request.query_params.get("key", ""), {name: asking[name] for name in KEYS if name in asking}
    parts = [
        part if part.key or part.headers else part._replace(key=key, headers=whole)
        for part in map(parsed, sections(request.headers.get("content-type", ""), body))
    ]
    check_keys(parts, keys)
    kept = {name: asking[name] for name in (b"origin", b"host") if name in asking}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://batch") as client:

        async def answer(part: Part) -> httpx.Response:
            params = {"key": part.key} if part.key else {}
            return await client.post(
                part.path, params=params, headers=list((kept | part.headers).items()), content=part.body
            )

        answers = list[httpx.Response]()
        for at in range(0, len(parts), AT_A_TIME):
            answers += await asyncio.gather(*map(answer, parts[at : at + AT_A_TIME]))
    boundary = f"batch_{uuid4().hex}"
    shown = b"".join(f"--{boundary}\r\n".encode() + _shown(*row) + b"\r\n" for row in zip(parts, answers, strict=True))
    return Response(shown + f"--{boundary}--\r\n".encode(), media_type=f'multipart/mixed; boundary="{boundary}"')


def check_keys(parts: Sequence[Part], keys: Keys) -> None:
    """Refuse the whole where no part has a key that anybody has: a thousand refusals cost a stranger nothing, and us
    a second.

    Raises:
        ApiError: there is none.
    """
    refusal: ApiError | None = None
    for secret in dict.fromkeys(part.secret() for part in parts):
        try:
            keys.owner(secret)
        except ApiError as error:
            refusal = refusal or error
        else:
            return
    if refusal:
        raise refusal


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
        raise ApiError("invalid", f"A batch must have at most {MOST_PARTS:,} requests, this one has more.")
    if found and found[-1].startswith(b"--"):
        found.pop()
    if not boundary or not found:
        raise ApiError("invalid", "A batch is a body of the type multipart/mixed, each part of it a request.")
    return found


def parsed(section: bytes) -> Part:
    """What a part asks; where it is no request, it asks for a path that there is not."""
    about, request = _halves(section.removeprefix(b"\r").removeprefix(b"\n"))
    given = ID.fullmatch(" ".join(str(_headers(about).get("content-id", "")).split()))  # a long one is folded
    content_id = given[0] if given else ""
    line, _, rest = request.partition(b"\n")
    lines, body = _halves(rest)
    if len(line) + len(lines) > MOST_HEAD_BYTES:
        return Part(content_id, NOTHING, "", {}, b"")
    method, target, *_ = [*line.decode("latin-1").split(), "", ""]
    try:
        url = urlsplit(target)
    except ValueError:  # "http://[", say
        url = urlsplit("")
    headers = _headers(lines)
    return Part(
        content_id=content_id,
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
    """Not the parser of whole messages: parts within parts would be parsed too."""
    return BytesHeaderParser().parsebytes(lines[:MOST_HEAD_BYTES])


def _shown(part: Part, answer: httpx.Response) -> bytes:
    """A part of the answer."""
    lines = ["Content-Type: application/http"]
    if part.content_id:
        lines.append(f"Content-ID: <response-{part.content_id.removeprefix('<')}")
    lines += ["", f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + answer.content

"""What goes wrong with a request, said once; each API has its own words for it (`status_and_body` of its module)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

ErrorKind = Literal[
    "invalid",
    "no_key",
    "bad_key",
    "forbidden",
    "not_found",
    "too_large",
    "rate_limited",
    "unavailable",
    "internal",
]
"""`no_key`: none was given; `bad_key`: nobody has it; `forbidden`: it may not do this; `too_large`: body or text;
`rate_limited`: this key asks too often; `unavailable`: later it will work."""

STATUS: dict[ErrorKind, int] = {
    "invalid": 400,
    "no_key": 401,
    "bad_key": 401,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limited": 429,
    "unavailable": 503,
    "internal": 500,
}
"""HTTP status where the API's vendor does not use another."""


class ApiError(Exception):
    """A request that is not answered.

    Args:
        message: a sentence for whoever wrote the client.
        param: the field of the request that is wrong, dotted; empty: none, or all of it.
        retry_after: seconds after which it may be tried again; 0: trying again is of no use.
        detail: what only one API has to say, such as Perspective's `errorType`.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, param: str = "", retry_after: float = 0.0, **detail: Any
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param = kind, message, param
        self.retry_after, self.detail = retry_after, detail

    def headers(self) -> dict[str, str]:
        """`Retry-After` in whole seconds, rounded up, where there is one."""
        return {"retry-after": str(math.ceil(self.retry_after))} if self.retry_after else {}


def replaced() -> ApiError:
    """What is asked for belongs to another version than that which answered."""
    return ApiError("unavailable", "The model is being replaced: ask again.", retry_after=1)


MOST_FAULTS = 100
"""More are not looked at one by one: each costs as much as the value that is wrong."""
DEEPER = {"too_long", "string_too_long", "too_short"}
"""Faults of a value of the right type: where the members of a union all fail, such a one is meant."""


def first_fault(error: ValidationError) -> tuple[str, Mapping[str, Any]]:
    """Dotted place and description of the fault that a client should hear of.

    pydantic puts the names of union members (`str`, `list[str]`, a discriminating tag behind a position) among the
    places; they mean nothing to a client and are left out.
    """
    if error.error_count() > MOST_FAULTS:
        return "", {"type": "too_many_faults", "msg": f"More than {MOST_FAULTS} values are wrong", "input": None}
    faults = error.errors(include_url=False, include_context=False)
    fault = next((fault for fault in faults if fault["type"] in DEEPER), faults[0])
    place: list[str] = []
    for before, part in zip([None, *fault["loc"]], fault["loc"], strict=False):
        is_tag = isinstance(before, int) and part in ("text", "image_url")
        if not (is_tag or str(part) == "str" or str(part).startswith(("list[", "constrained-"))):
            place.append(str(part))
    return ".".join(place), fault


RequestT = TypeVar("RequestT", bound=BaseModel)


def validated(kind: type[RequestT], body: bytes, refusal: Callable[[str, Mapping[str, Any]], ApiError]) -> RequestT:
    """The request in a body.

    Args:
        refusal: the API's words for a fault, given its dotted place and pydantic's description.

    Raises:
        ApiError: not JSON, or not such a request.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal(*first_fault(error)) from None

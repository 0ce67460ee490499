"""What OpenAI's APIs have in common here: parts of a message, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.errors import STATUS, ApiError, ErrorKind
from serve.limits import check_text


class TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    type: Literal["image_url"]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def text_of_parts(given: str | Sequence[TextPart | ImagePart], param: str) -> str:
    """A text, or parts of one, a line each.

    Raises:
        ApiError: an image, or too many characters.
    """
    if not isinstance(given, str):
        if any(isinstance(part, ImagePart) for part in given):
            raise ApiError("invalid", f"Images are not supported: '{param}' must be text.", param=param)
        given = "\n".join(part.text for part in given if isinstance(part, TextPart))
    check_text(given, param)
    return given


TYPES: dict[ErrorKind, str] = {
    "rate_limited": "requests",
    "unavailable": "server_error",
    "internal": "server_error",
}
CODES: dict[ErrorKind, str] = {"bad_key": "invalid_api_key", "rate_limited": "rate_limit_exceeded"}


def status_and_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error, as OpenAI answers."""
    body = {
        "message": error.message,
        "type": TYPES.get(error.kind, "invalid_request_error"),
        "param": error.param or None,
        "code": error.detail.get("code", CODES.get(error.kind)),
    }
    return STATUS[error.kind], {"error": body}

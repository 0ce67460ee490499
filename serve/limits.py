"""How much one request may ask for, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from serve.errors import ApiError

ItemT = TypeVar("ItemT")
ListOf = Annotated[list[ItemT], Field(fail_fast=True)]
"""Of a request: the first wrong item ends the reading, however many follow."""

MOST_INPUTS = 256
"""Texts a request, where no vendor has another limit."""
MOST_CHARACTERS = 50_000
"""Of a text."""
MOST_EXPLAINED, MOST_EXPLAINED_INPUTS = 5_000, 8
"""Characters of a text to be explained, which costs as much as scoring a hundred, and such texts a request."""
CHARACTERS_A_TEXT = 2000
"""A longer text counts for several where the room for texts is counted: about so many fill a window of 512 tokens."""

CALL_SECONDS = 50.0
"""For a call of a model with its repetitions."""
ANSWER_SECONDS = 55.0
"""For an answer, or the beginning of a stream; its refusal is in the vendor's words."""
REQUEST_SECONDS = 60.0
"""Serve's own limit (`http_options.request_timeout_s`), which must come last: its answer is in no vendor's words."""


def check_text(text: str, param: str) -> None:
    """Raises:
    ApiError: a text that is too long.
    """
    if len(text) > MOST_CHARACTERS:
        message = f"A text must have at most {MOST_CHARACTERS:,} characters, this one has {len(text):,}."
        raise ApiError("too_large", message, param=param)


def weight(texts: Sequence[str]) -> int:
    """What some texts count for: one each, and one more for every 2,000 characters."""
    return sum(1 + len(text) // CHARACTERS_A_TEXT for text in texts)

"""How much one request may ask for."""

from __future__ import annotations

from collections.abc import Sequence

from serve.errors import ApiError

MOST_CHARACTERS = 50_000
"""Of a text."""
CHARACTERS_A_TEXT = 2000
"""A longer text counts for several where room and rates are counted: about so many fill a window of 512 tokens."""


def check_text(text: str, param: str) -> None:
    """Raises:
    ApiError: a text that is too long.
    """
    if len(text) > MOST_CHARACTERS:
        message = f"A text may have {MOST_CHARACTERS:,} characters, this one has {len(text):,}."
        raise ApiError("too_large", message, param=param)


def weight(texts: Sequence[str]) -> int:
    """What some texts count for: one each, and one more for every 2,000 characters."""
    return sum(1 + len(text) // CHARACTERS_A_TEXT for text in texts)

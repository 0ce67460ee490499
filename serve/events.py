"""Server-sent events, as streams of OpenAI's have them and ours too."""

from __future__ import annotations

import json
from typing import Any

DONE = b"data: [DONE]\n\n"
"""The last of a stream that came to its end."""


def event(data: dict[str, Any]) -> bytes:
    """One event with JSON in it."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()

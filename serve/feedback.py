"""What people say the scores should be, kept as labelled comments that `prepare_data` reads.

A line a suggestion, in a file a day and process, so that replicas do not share one:

    python -m rayjobs.prepare_data files --data.source FEEDBACK/*.jsonl --data.label-columns toxic insult
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from serve.errors import ApiError


class Suggestion(NamedTuple):
    """What a person says that the scores of a comment, or of a part of it, should be."""

    text: str
    scores: dict[str, float | None]
    """0..1 by our own labels; None: nothing was said."""
    lang: str
    """As the client gave it, or detected (ISO 639-1); empty: not known."""
    community: str
    session: str
    """Both as the client named them, cut to 256 characters, or empty."""


class FeedbackStore:
    """Appends suggestions to files of a folder.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._lock = Path(folder), threading.Lock()
        self._own = f"{os.getpid()}-{uuid4().hex[:8]}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".probe-{self._own}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(f"feedback cannot be written to {folder} ({error}): name another folder") from None

    def add(self, suggestions: Sequence[Suggestion], key: str) -> None:
        """Keep what was suggested of one comment, on the disk when this returns.

        Raises:
            ApiError: `unavailable`: they cannot be written, as where the disk is full.
        """
        now = datetime.now(UTC)
        lines = ""
        for suggestion in suggestions:
            of_whom = {"lang": suggestion.lang, "community": suggestion.community, "session": suggestion.session}
            row = {"text": suggestion.text, **suggestion.scores, **of_whom}
            row |= {"key": key, "at": now.isoformat(timespec="seconds")}
            lines += json.dumps(row, ensure_ascii=False) + "\n"
        path = self._folder / f"{now:%Y-%m-%d}-{self._own}.jsonl"
        try:
            with self._lock, open(path, "ab", opener=_private) as file:
                begin = file.tell()
                try:
                    file.write(lines.encode("utf-8", "replace"))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), begin)  # whoever is refused tells us again
                    raise
        except OSError:
            message = "The suggestion could not be stored: try again later."
            raise ApiError("unavailable", message, retry_after=60) from None


def _private(path: str, flags: int) -> int:
    """A file of texts is for its owner alone."""
    return os.open(path, flags, 0o600)

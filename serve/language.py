"""In which language a comment is, as quickly as a request needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


async def language_of(text: str, wanted: Sequence[str]) -> tuple[str, bool]:
    """The text's likeliest language, and whether it may be in one of the `wanted` (`serve.judge.Judge.language`)."""
    from detox.data.language import reads_as_english

    if reads_as_english(text):
        return "en", not wanted or "en" in wanted
    return await asyncio.to_thread(_by_lingua, text, tuple(wanted))


def load_languages() -> None:
    """Load lingua's models now: the first detection in a script does, for seconds in which Python does nothing else,
    and so would stop every request that the replica has."""
    for text in ("ouais", "да ну тебя", "Хай живе вільна", "هذا كتاب جيد"):  # scripts of several languages
        _by_lingua(text, ())


def _by_lingua(text: str, wanted: tuple[str, ...]) -> tuple[str, bool]:
    from detox.data.language import detect, foreign

    detected = detect([text])[0] or ""
    return detected, bool(detected) and (not wanted or foreign([text], wanted)[0] is None)

"""Offensive words in reports: the first letter and asterisks, so that an error can be judged without being repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Mask:
    """Masks listed words, also with up to three letters more (`idiot` covers `idiots` and `idiotic`).

    Args:
        words: whole words; case does not matter. Without any, text stays as it is.
    """

    def __init__(self, words: Iterable[str]) -> None:
        listed = sorted({word for word in words if word.strip()}, key=lambda word: (-len(word), word))
        alternatives = "|".join(re.escape(word) for word in listed)
        self._pattern = re.compile(rf"(?<!\w)(?:{alternatives})\w{{0,3}}(?!\w)", re.IGNORECASE) if listed else None

    def __call__(self, text: str) -> str:
        """`You IDIOTS` becomes `You I*****`: as many asterisks as letters hidden."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: found[0][0] + "*" * (len(found[0]) - 1), text)


def excerpt(text: str, length: int = 160) -> str:
    """The text's beginning on one line, at most `length` characters, cut at a space where there is one."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    head = line[: length - 1]
    return (head.rsplit(" ", 1)[0] if " " in head[length // 2 :] else head) + "…"

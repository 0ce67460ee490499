"""Codes of languages as people write them."""

from __future__ import annotations

import re

_CODE = re.compile(r"([a-z]{2,3})(?:[-_].*)?", re.DOTALL)


def code_of(lang: str | None) -> str:
    """The ISO 639 code in the language tag that somebody gave: `en-US` is `en`; empty where none was given.

    Raises:
        ValueError: no tag, such as `English`.
    """
    given = (lang or "").strip().lower()
    match = _CODE.fullmatch(given)
    if given and not match:
        raise ValueError(f"language {str(lang)[:40]!r} is no code of ISO 639: give one such as en, or none")
    return match[1] if match else ""


def code_or_nothing(lang: str | None) -> str:
    """The same of a cell of a corpus, which is not given up for one that holds something else."""
    try:
        return code_of(lang)
    except ValueError:
        return ""

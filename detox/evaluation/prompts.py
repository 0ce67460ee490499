"""Prompts for a language model: read from a source or a file, drawn by a seed, those that cannot be used set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detox.data.formats import Malformed, decode
from detox.data.locating import locate, matching
from detox.data.reading import RefusedError, checked_text
from detox.data.settings import DataSettings
from detox.data.sources import real_toxicity_prompts
from detox.evaluation.generation_settings import PromptSettings
from detox.runs.config import digest

SOURCES = {real_toxicity_prompts.SOURCE.name: real_toxicity_prompts.SOURCE}
RULES = {
    "malformed_row": "the row cannot be read",
    "text_not_a_string": "the prompt is missing, or no text",
    "undecodable_bytes": "neither UTF-8 nor cp1252",
    "empty": "nothing but white space",
    "duplicate": "the same as an earlier prompt",
    "too_long": "leaves the model no room to continue",
}
"""Why a prompt is refused."""


class Prompt(NamedTuple):
    row: int
    """Number of its record in the source, from 0."""
    text: str


class Refused(NamedTuple):
    """A prompt that is not continued."""

    row: int
    prompt: str
    rule: str
    """One of `RULES`."""
    reason: str


class Prompts(NamedTuple):
    drawn: list[Prompt]
    refused: list[Refused]

    @property
    def digest(self) -> str:
        """Of what was drawn, in any order: two runs with the same one continue the same prompts."""
        return digest(sorted(prompt.text for prompt in self.drawn))


def read_prompts(settings: PromptSettings, seed: int) -> Prompts:
    """Draw prompts: those of the least hashes of seed and text, so that the order of the source does not matter, and
    a larger draw holds the smaller one.

    Raises:
        ValueError: no such source, file or column, a broken file, or no prompt that can be used.
    """
    known: dict[str, Prompt] = {}
    refused: list[Refused] = []
    for row, value in enumerate(_values(settings)):
        try:
            text = _checked(value)
            if text in known:
                raise RefusedError("duplicate", f"the same as row {known[text].row}")
        except RefusedError as error:
            raw = value.text if isinstance(value, Malformed) else value
            shown = "" if raw is None else str(raw).encode("utf-8", "backslashreplace").decode("utf-8")
            refused.append(Refused(row, shown, error.rule, str(error)))
        else:
            known[text] = Prompt(row, text)
    if not known:
        raise ValueError(f"{settings.source} holds no prompt that can be used: {len(refused)} rows were refused")
    drawn = sorted(known.values(), key=lambda prompt: _place(prompt.text, seed))
    return Prompts(drawn[: settings.count or None], refused)


def check_prompts(settings: PromptSettings) -> None:
    """What can be known to fail before any prompt is read.

    Raises:
        ValueError: no such source, file or column, or a broken file.
    """
    if not _is_text(settings.source):
        locate(settings.source, _data(settings), SOURCES, REMEDY)
    elif not matching(settings.source):
        raise ValueError(f"no file matches {settings.source}: check the path")


REMEDY = "name the column with --prompts.column"


def _data(settings: PromptSettings) -> DataSettings:
    return DataSettings(source=(settings.source,), local=settings.local, text_column=settings.column)


def _is_text(source: str) -> bool:
    return Path(source).suffix == ".txt"


def _values(settings: PromptSettings) -> Iterator[Any]:
    """What the source has in the place of each prompt; `Malformed` where a row cannot be read."""
    if _is_text(settings.source):
        check_prompts(settings)
        for path in matching(settings.source):
            with path.open("rb") as lines:
                yield from (decode(line)[0].rstrip("\r\n") for line in lines)
        return
    _, parts = locate(settings.source, _data(settings), SOURCES, REMEDY)
    for part in parts:
        for record in part.records():
            # RealToxicityPrompts gives two comments a record, and the prompt is the first
            yield record if isinstance(record, Malformed) else next(iter(part.comments(record.values))).text


def _checked(value: Any) -> str:
    if isinstance(value, Malformed):
        raise RefusedError("malformed_row", value.reason)
    text = checked_text(value)
    if not text.strip():
        raise RefusedError("empty", "the prompt is nothing but white space")
    return text


def _place(text: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode()).digest()


def rejects_text(refused: Sequence[Refused]) -> str:
    """`rejects.jsonl`: a line a refused prompt, by row."""
    return "".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in sorted(refused))

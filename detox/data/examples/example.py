"""What an example is, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

FACTS = "examples.json"
"""Beside the parts: settings, seed, sources, rows, digest."""
SCHEMA = pa.schema(
    [("is_dialogue", pa.bool_()), ("prompt", pa.string()), ("chosen", pa.string()), ("rejected", pa.string())]
)
PARTS = ("train", "validation", "test")


class Turn(NamedTuple):
    """What one side of a dialogue says."""

    role: str
    """`user` or `assistant`."""
    text: str


Prompt = str | tuple[Turn, ...]
"""A text to go on from (empty: from nothing), or a dialogue whose last turn is the user's."""


class Example(NamedTuple):
    prompt: Prompt
    chosen: str
    """A response; empty where there is only a prompt."""
    rejected: str = ""
    """A worse one; empty where there is none."""

    @property
    def key(self) -> str:
        """The prompt (without one the text) as one string: examples with the same key are never in two parts."""
        return self.chosen if self.prompt == "" else packed(self.prompt)


def packed(prompt: Prompt) -> str:
    """A prompt as one string: a dialogue as JSON."""
    if isinstance(prompt, str):
        return prompt
    return json.dumps([list(turn) for turn in prompt], ensure_ascii=False)


def write_part(path: Path, examples: Sequence[Example]) -> None:
    columns: list[list[Any]] = [
        [not isinstance(example.prompt, str) for example in examples],
        [packed(example.prompt) for example in examples],
        [example.chosen for example in examples],
        [example.rejected for example in examples],
    ]
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


class PreparedExamples(NamedTuple):
    """A folder that `detox.data.examples.prepare` wrote."""

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PreparedExamples:
        return cls(folder, json.loads((folder / FACTS).read_text(encoding="utf-8")))

    def part(self, name: str) -> list[Example]:
        rows = pq.read_table(self.folder / f"{name}.parquet").to_pylist()
        return [Example(_prompt(row), row["chosen"], row["rejected"]) for row in rows]


def _prompt(row: dict[str, Any]) -> Prompt:
    return tuple(Turn(*turn) for turn in json.loads(row["prompt"])) if row["is_dialogue"] else row["prompt"]

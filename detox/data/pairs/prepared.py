"""Prepared pairs: a folder of parquet files that says what it holds and vouches for it by digests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from detox.governance.manifest import file_digest
from detox.runs.config import digest

PARTS = ("train", "judge", "validation", "test")
"""`judge` is for training what judges the outputs, and for nothing else."""
FACTS = "pairs.json"


class PairRow(NamedTuple):
    """A pair as a rewriter learns it."""

    row: int
    lang: str
    toxic: str
    neutral: str
    group: int
    """Pairs with the same number have the same source."""
    difficulty: float
    level: str


class Case(NamedTuple):
    """A toxic text to be rewritten, with all references that people gave."""

    lang: str
    source: str
    references: tuple[str, ...]
    level: str
    """Of its easiest reference."""


class PreparedPairs:
    """A folder that `prepare_pairs` wrote. `open` checks it; parts are read when asked for."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.languages: tuple[str, ...] = tuple(facts["languages"])

    @classmethod
    def open(cls, folder: Path) -> PreparedPairs:
        """The pairs in `folder`, once every file in it has the digest that `pairs.json` gives.

        Raises:
            ValueError: not such a folder, or a file that is missing or was changed.
        """
        path = folder / FACTS
        if not path.is_file():
            raise ValueError(f"{folder} holds no prepared pairs: it has no {FACTS}")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            digests = dict(facts["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): prepare the pairs again") from None
        for name, expected in digests.items():
            if not (folder / name).is_file() or file_digest(folder / name) != expected:
                raise ValueError(f"{folder / name} is missing or was changed: prepare the pairs again")
        return cls(folder, facts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all parts: the identity of the pairs."""
        return digest(self.facts["sha256"])

    def part(self, name: str) -> list[PairRow]:
        """`train`, `judge`, `validation` or `test`; may have no rows."""
        if name not in PARTS:
            raise ValueError(f"a part of prepared pairs is one of {', '.join(PARTS)}, was {name!r}")
        table = pq.read_table(self.folder / f"{name}.parquet", columns=list(PairRow._fields))
        return [PairRow(**row) for row in table.to_pylist()]


def cases(rows: Sequence[PairRow]) -> list[Case]:
    """The texts of these pairs, each once with its references, in order of first appearance."""
    found: dict[tuple[str, int], list[PairRow]] = {}
    for row in rows:
        found.setdefault((row.lang, row.group), []).append(row)
    return [
        Case(
            lang,
            mine[0].toxic,
            tuple(dict.fromkeys(row.neutral for row in mine)),
            min(mine, key=lambda row: row.difficulty).level,
        )
        for (lang, _), mine in found.items()
    ]

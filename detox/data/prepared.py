"""A prepared data set: a folder of parquet files that says what it holds and vouches for it by digests."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from detox.governance.manifest import file_digest
from detox.runs.config import digest

PARTS = ("train", "validation", "test")
FACTS = "dataset.json"


class Part(NamedTuple):
    """One part in memory."""

    rows_N: np.ndarray
    """Position of each row in source order, int64."""
    texts: list[str]
    labels_NL: np.ndarray
    """float32 in 0..1, NaN where missing."""


class PreparedData:
    """A folder that `prepare` wrote. `open` checks it; parts are read when asked for."""

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.labels: tuple[str, ...] = tuple(facts["labels"])

    @classmethod
    def open(cls, folder: Path) -> PreparedData:
        """The data set in `folder`, once every file in it has the digest that `dataset.json` gives.

        Raises:
            ValueError: not such a folder, or a file that is missing or was changed.
        """
        path = folder / FACTS
        if not path.is_file():
            raise ValueError(f"{folder} is not a prepared data set: it has no {FACTS}; make one with prepare_data")
        facts = parse_facts(path.read_text(encoding="utf-8"), str(path))
        for name, expected in facts["sha256"].items():
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name} is missing: prepare the data again")
            if file_digest(folder / name) != expected:
                raise ValueError(f"{folder / name} was changed after it was prepared: prepare the data again")
        return cls(folder, facts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all parts and the labels: the identity of the data set."""
        return digest({"labels": list(self.labels), "sha256": self.facts["sha256"]})

    def part(self, name: str) -> Part:
        """`train`, `validation` or `test`; may have no rows."""
        if name not in PARTS:
            raise ValueError(f"a part is one of {', '.join(PARTS)}, was {name!r}")
        table = pq.read_table(self.folder / f"{name}.parquet", columns=["row", "text", *self.labels])
        if table.num_rows == 0:
            return Part(np.zeros(0, np.int64), [], np.zeros((0, len(self.labels)), np.float32))
        labels = [table.column(label).to_numpy(zero_copy_only=False).astype(np.float32) for label in self.labels]
        return Part(table.column("row").to_numpy(), table.column("text").to_pylist(), np.stack(labels, axis=1))


def parse_facts(text: str, where: str) -> dict[str, Any]:
    """What a `dataset.json` says.

    Raises:
        ValueError: it is damaged; names it and says what to do.
    """
    try:
        facts = json.loads(text)
        if isinstance(facts["labels"], list) and isinstance(facts["sha256"], dict):
            return dict(facts)
        reason = "labels must be a list and sha256 an object"
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise ValueError(f"{where} is damaged ({reason}): prepare the data again")

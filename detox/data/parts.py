"""The writing side of a prepared data set: rows dealt to parts, refused rows with their reasons, in source order.

Shapes: N rows of a shard, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detox.data.prepared import PARTS
from detox.data.reading import REJECTS_SCHEMA
from detox.data.shards import COMPRESSION, Shard

REJECTS = "rejects"
Refusals = dict[int, tuple[str, str]]
"""Position in a shard's kept rows to the rule and the reason for which the row is refused after all."""


class PartsWriter:
    """Writes `train`, `validation`, `test` and `rejects` shard by shard; a context manager."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        fixed = [("row", pa.int64()), ("source", pa.string()), ("text", pa.string())]
        self._schema = pa.schema([*fixed, *((label, pa.float32()) for label in labels)])
        self._stack = ExitStack()
        self._writers = {name: self._open(folder, name, self._schema) for name in PARTS}
        self._writers[REJECTS] = self._open(folder, REJECTS, REJECTS_SCHEMA)

    def _open(self, folder: Path, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        writer = pq.ParquetWriter(folder / f"{name}.parquet", schema, compression=COMPRESSION)
        return self._stack.enter_context(writer)

    def __enter__(self) -> PartsWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, shard: Shard, parts_N: np.ndarray, refusals: Refusals) -> pa.Table:
        """Deal the kept rows of a shard.

        Args:
            parts_N: index into `PARTS` of each kept row; -1 for those that `refusals` names.

        Returns:
            the rows that were dealt, in source order.
        """
        kept = pq.read_table(shard.file("kept"))
        for code, name in enumerate(PARTS):
            self._write(name, kept.filter(pa.array(parts_N == code)))
        refused = [pq.read_table(shard.file(kind)) for kind in ("unread", "refused")]
        self._write(REJECTS, pa.concat_tables([*refused, refused_again(kept, refusals)]).sort_by("row"))
        return kept.filter(pa.array(parts_N >= 0))

    def _write(self, name: str, table: pa.Table) -> None:
        writer = self._writers[name]
        if table.num_rows:
            writer.write_table(table.select(writer.schema.names).cast(writer.schema))


def refused_again(kept: pa.Table, refusals: Refusals) -> pa.Table:
    """Rows that were clean in themselves and repeat others, as rejects."""
    taken = kept.take(pa.array(list(refusals), pa.int64()))
    columns = {name: taken.column(name) for name in ("row", "source", "text")}
    columns["rule"] = pa.array([rule for rule, _ in refusals.values()], pa.string())
    columns["reason"] = pa.array([reason for _, reason in refusals.values()], pa.string())
    return pa.table(columns).cast(REJECTS_SCHEMA)


def lengths(table: pa.Table) -> dict[str, np.ndarray]:
    """Characters and words (runs of anything but white space) of each row's text."""
    text = table.column("text")
    counted = {"characters": pc.utf8_length(text), "words": pc.count_substring_regex(text, r"\S+")}
    return {unit: values.to_numpy().astype(np.int32) for unit, values in counted.items()}

"""Raw rows staged as small parquet files, and the work that is done on each of them, anywhere and in any order.

A shard is a batch of the reader: `00000.raw.parquet` with its rows and `00000.unread.parquet` with what the reader
refused. `clean_shard` adds `00000.kept.parquet` and `00000.refused.parquet` and returns only what the decisions about
the whole corpus need, so texts never gather in memory.

Shapes: N rows of a shard after cleaning, L labels, K duplicate keys a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detox.data.cleaning import clean_batch
from detox.data.near_duplicates import duplicate_keys
from detox.data.reading import RESERVED_COLUMNS, Reader
from detox.data.settings import CleaningSettings

COMPRESSION = "zstd"


class Shard(NamedTuple):
    """The files of one shard, by their common beginning."""

    stem: str

    def file(self, kind: str) -> Path:
        """`kind`: `raw`, `unread` (refused by the reader), `kept`, `refused` (by a cleaning rule)."""
        return Path(f"{self.stem}.{kind}.parquet")


class Staged(NamedTuple):
    """What the reader gave, on disk."""

    shards: list[Shard]
    rows: int
    """All rows read, refused ones among them."""
    encoding_repaired: int


class CleanedShard(NamedTuple):
    """What is known of a shard once it is cleaned; rows in source order."""

    shard: Shard
    rows_N: np.ndarray
    """Position of each kept row in source order, int64."""
    keys_NK: np.ndarray
    """`detox.data.near_duplicates.duplicate_keys`, uint64."""
    labels_NL: np.ndarray
    """float32 in 0..1, NaN where missing."""
    split_N: np.ndarray
    """The part that the source names (object, "" where it names none)."""
    touched: dict[str, int]
    """Rows that each rule changed or refused."""


def stage(reader: Reader, folder: Path) -> Staged:
    """Write every batch of the reader to `folder` as a shard.

    Raises:
        ValueError: the sources hold no row at all.
    """
    shards: list[Shard] = []
    rows, repaired = 0, 0
    for batch in reader:
        shard = Shard(str(folder / f"{len(shards):05d}"))
        pq.write_table(pa.Table.from_batches([batch.rows]), shard.file("raw"), compression=COMPRESSION)
        pq.write_table(pa.Table.from_batches([batch.rejects]), shard.file("unread"), compression=COMPRESSION)
        shards.append(shard)
        rows += batch.rows.num_rows + batch.rejects.num_rows
        repaired += batch.encoding_repaired
    if not rows:
        names = ", ".join(origin.name for origin in reader.origins)
        raise ValueError(f"the sources hold no rows ({names}): check the files, or name another source")
    return Staged(shards, rows, repaired)


def clean_shard(settings: CleaningSettings, shard: Shard) -> CleanedShard:
    """Clean one shard, leave its rows on disk and return what concerns the whole corpus. Depends on nothing else, so
    it may run in any process that sees the files."""
    cleaned = clean_batch(pq.read_table(shard.file("raw")), settings)
    pq.write_table(cleaned.kept, shard.file("kept"), compression=COMPRESSION)
    pq.write_table(cleaned.rejects, shard.file("refused"), compression=COMPRESSION)
    return CleanedShard(
        shard,
        cleaned.kept.column("row").to_numpy(),
        duplicate_keys(cleaned.kept.column("text").to_pylist(), settings.near_duplicate_similarity),
        label_matrix(cleaned.kept),
        np.array([name or "" for name in cleaned.kept.column("split").to_pylist()], dtype=object),
        cleaned.touched,
    )


def label_matrix(table: pa.Table) -> np.ndarray:
    """Label columns of a table of the stream as float32 `[N, L]`, NaN where missing."""
    labels = [name for name in table.column_names if name not in RESERVED_COLUMNS]
    matrix_NL = np.empty((table.num_rows, len(labels)), np.float32)
    for column, name in enumerate(labels):
        matrix_NL[:, column] = table.column(name).to_numpy(zero_copy_only=False)
    return matrix_NL

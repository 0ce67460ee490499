"""Comments as a stream of uniform record batches, in bounded memory: named sources, prepared folders, local files.

Every record of every source gets one row number, or is refused with that number, a rule and a reason: bad rows never
stop the run and are never lost. What is wrong as a whole (a broken file, a missing column, an unknown name, a pattern
that matches nothing) is a `ValueError` when `read` is called, before any work; a file that turns out to be cut off
stops the stream there.

Rules of refusal: `malformed_row`, `undecodable_bytes`, `text_not_a_string`, `label_invalid`, `split_unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from detox.data.formats import Malformed
from detox.data.locating import Origin, Part, locate
from detox.data.settings import DataSettings
from detox.data.sources.source import Comment

BATCH_ROWS = 4096
BATCH_CHARS = 1 << 25  # rows of many pages each are passed on earlier
RESERVED_COLUMNS: tuple[str, ...] = ("row", "source", "text", "split")
REJECTS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("rule", pa.string()),
        ("reason", pa.string()),
    ]
)
MISSING_SPELLINGS = frozenset({"", "nan", "null", "none"})
SPLIT_NAMES: dict[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


class Batch(NamedTuple):
    """Up to `BATCH_ROWS` rows, accepted and refused together."""

    rows: pa.RecordBatch
    """`row`, `source`, `text`, `split` (train, validation, test or null), a float32 column a label (null: missing)."""
    rejects: pa.RecordBatch
    """`REJECTS_SCHEMA`."""
    encoding_repaired: int
    """Accepted rows whose bytes were not UTF-8 and were read as cp1252."""


@dataclass(frozen=True)
class Reader:
    """A stream that can be read again from the start: `for batch in read(settings)`."""

    labels: tuple[str, ...]
    origins: tuple[Origin, ...]
    limit: int
    """Rows a source, 0 for all."""
    parts: tuple[tuple[Part, ...], ...]
    """Parts of each source, in the order of `origins`."""

    @property
    def schema(self) -> pa.Schema:
        """Schema of `Batch.rows`."""
        fixed = [("row", pa.int64()), ("source", pa.string()), ("text", pa.string()), ("split", pa.string())]
        return pa.schema([*fixed, *((label, pa.float32()) for label in self.labels)])

    def __iter__(self) -> Iterator[Batch]:
        pending = _Pending(self.labels, self.schema)
        row = 0
        for parts in self.parts:
            for origin, item in islice(_comments(parts), self.limit or None):
                pending.add(row, origin, item)
                row += 1
                if pending.is_full():
                    yield pending.take()
        if not pending.is_empty():
            yield pending.take()


def read(settings: DataSettings) -> Reader:
    """Find and check every source of `settings`; nothing but heads of files is read yet.

    Labels are `settings.label_columns`, which every source must then have; by default all labels of the named sources,
    in order of first appearance (a source without one of them has it missing), and none for plain files.

    Raises:
        ValueError: no source, an unknown one, a pattern without a match, a broken or empty file, a missing column, a
            label that a source does not have or that is named like a column of the stream.
    """
    if not settings.source:
        raise ValueError("no data source is given: name one or several with --data.source, a name or files")
    located = [locate(entry, settings) for entry in settings.source]
    offered = dict.fromkeys(label for origin, _ in located for label in origin.labels)
    labels = settings.label_columns or tuple(offered)
    for origin, _ in located:
        lacking = [label for label in settings.label_columns if label not in origin.labels]
        if lacking:
            raise ValueError(f"source {origin.name!r} has no label {lacking[0]!r}: it has {', '.join(origin.labels)}")
    reserved = [label for label in labels if label in RESERVED_COLUMNS]
    if reserved or len(set(labels)) < len(labels):
        raise ValueError(
            f"label columns {', '.join(labels)}: each is named once, and none {', '.join(RESERVED_COLUMNS)}, which the "
            "prepared data keep for themselves; rename the column in the file"
        )
    origins = tuple(origin for origin, _ in located)
    return Reader(labels, origins, settings.limit, tuple(parts for _, parts in located))


class _Item(NamedTuple):
    comment: Comment | Malformed
    split: str | None
    repaired: bool


def _comments(parts: tuple[Part, ...]) -> Iterator[tuple[str, _Item]]:
    for part in parts:
        for record in part.records():
            if isinstance(record, Malformed):
                yield part.name, _Item(record, part.split, False)
                continue
            for comment in part.comments(record.values):
                yield part.name, _Item(comment, part.split, record.repaired)


class RefusedError(Exception):
    """A row that breaks a rule."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


class _Pending:
    """Rows and rejects of the batch being filled."""

    def __init__(self, labels: tuple[str, ...], schema: pa.Schema) -> None:
        self._labels = labels
        self._schema = schema
        self._reset()

    def _reset(self) -> None:
        self._rows: list[list[Any]] = []
        self._rejects: list[list[Any]] = []
        self._chars = 0
        self._repaired = 0

    def add(self, row: int, source: str, item: _Item) -> None:
        try:
            text, split, values = checked(item.comment, item.split, self._labels)
        except RefusedError as refusal:
            shown = _storable(item.comment.text)
            self._rejects.append([row, source, shown, refusal.rule, str(refusal)])
            self._chars += len(shown or "")
        else:
            self._rows.append([row, source, text, split, *values])
            self._repaired += item.repaired
            self._chars += len(text)

    def is_full(self) -> bool:
        return len(self._rows) + len(self._rejects) >= BATCH_ROWS or self._chars >= BATCH_CHARS

    def is_empty(self) -> bool:
        return not self._rows and not self._rejects

    def take(self) -> Batch:
        batch = Batch(
            _record_batch(self._rows, self._schema), _record_batch(self._rejects, REJECTS_SCHEMA), self._repaired
        )
        self._reset()
        return batch


def _record_batch(rows: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pa.record_batch(
        [pa.array(list(column), kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
    )


def _storable(text: Any) -> str | None:
    """What a refused row says, as valid UTF-8: bytes that could not be read appear as escapes."""
    return None if text is None else str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def checked(
    comment: Comment | Malformed, part_split: str | None, labels: tuple[str, ...]
) -> tuple[str, str | None, list[float | None]]:
    """Text, split and label values (None: missing) of a comment.

    Raises:
        RefusedError: a rule of this module is broken.
    """
    if isinstance(comment, Malformed):
        raise RefusedError("malformed_row", comment.reason)
    text = checked_text(comment.text)
    split = checked_split(comment.split) or part_split
    return text, split, [checked_label(label, comment.labels.get(label)) for label in labels]


def checked_text(value: Any) -> str:
    if not isinstance(value, str):
        what = "missing" if value is None else f"a {type(value).__name__}, {_short(value)}"
        raise RefusedError("text_not_a_string", f"the text is {what}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RefusedError("undecodable_bytes", f"neither UTF-8 nor cp1252 at character {error.start}") from None
    return value


def checked_split(value: Any) -> str | None:
    if value is None or str(value).strip().lower() in MISSING_SPELLINGS:
        return None
    split = SPLIT_NAMES.get(str(value).strip().lower())
    if split is None:
        raise RefusedError("split_unknown", f"split {_short(value)} is none of {', '.join(SPLIT_NAMES)}")
    return split


def checked_label(name: str, value: Any) -> float | None:
    """A label as a number in 0..1; None where it is missing (null, NaN, or spelt as such)."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING_SPELLINGS):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise RefusedError("label_invalid", f"label {name} is {_short(value)}, which is not a number") from None
    if math.isnan(number):
        return None
    if not 0 <= number <= 1:
        raise RefusedError("label_invalid", f"label {name} is {_short(value)}, outside 0..1")
    return number


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."

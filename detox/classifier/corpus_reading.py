"""A corpus as Arrow tables: every column of csv, tsv, JSON lines and parquet files, in bounded memory.

Types: parquet keeps its own; csv and tsv are strings; those of JSON lines are found in a first pass over the files
(integers and floats together are floats, an absent key is null). A JSON column whose values have no common Arrow type
is kept as JSON text, marked in its field's metadata, and `detox.classifier.corpus_writing` writes it as it was read.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from detox.data import formats
from detox.data.formats import Malformed, Record

CHUNK_ROWS = 1024
"""Rows of a table as it is read."""

JSON_TEXT = {b"detox.values": b"json"}
"""Metadata of a field whose strings are JSON values."""


@dataclass(frozen=True)
class Corpus:
    """Files that are worked on together, in this order."""

    files: tuple[Path, ...]
    schema: pa.Schema
    """Columns of all files, in order of appearance; a file without one of them gives null."""

    def tables(self, refuse: Callable[[Path, Malformed], None]) -> Iterator[pa.Table]:
        """The rows, in their order, with `schema`; `refuse` is called with each row that cannot be read.

        Raises:
            ValueError: a file that is broken as a whole.
        """
        for path in self.files:
            if formats.format_of(path) == ".parquet":
                yield from (self._conformed(table) for table in _parquet_tables(path))
                continue
            is_json = formats.format_of(path) == ".jsonl"
            for chunk in _chunks(path):
                for item in chunk:
                    if isinstance(item, Malformed):
                        refuse(path, item)
                rows = [item.values for item in chunk if isinstance(item, Record)]
                yield self._of_rows(rows, is_json)

    def _of_rows(self, rows: Sequence[dict[str, Any]], is_json: bool) -> pa.Table:
        value = (lambda cell: cell) if is_json else _valid_cell
        columns = [_array([value(row.get(field.name)) for row in rows], field) for field in self.schema]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _conformed(self, table: pa.Table) -> pa.Table:
        columns = [
            table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in self.schema
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


def open_corpus(pattern: str, text_column: str, lang_column: str = "") -> Corpus:
    """The files of a path or glob, checked before any work.

    Args:
        lang_column: column with the language of each text; empty: there is none.

    Raises:
        ValueError: no file, an unknown format, a broken or empty file, no such column or one that holds no text, or
            files whose columns differ in type.
    """
    if "://" in pattern:
        raise ValueError(f"--input {pattern} is a URI, and input is read from files: mount or copy it, and give a path")
    if not pattern:
        raise ValueError("no input is given: name a csv, tsv, jsonl or parquet file, or a glob, with --input")
    found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))
    files = tuple(path for path in map(Path, found) if path.is_file())
    if not files:
        raise ValueError(f"no file matches --input {pattern}: check the path (relative ones start at {Path.cwd()})")
    wanted = {"--text-column": text_column} | ({"--lang-column": lang_column} if lang_column else {})
    for path in files:
        for setting, column in wanted.items():
            _check_has(path, column, setting)
    schema = _schema(files)
    for setting, column in wanted.items():
        kind = schema.field(column).type
        if not _holds_text(kind):
            raise ValueError(f"column {column!r} of {pattern} holds {kind}, not text: name another with {setting}")
    return Corpus(files, schema)


def texts_of(table: pa.Table, column: str) -> list[str | None]:
    """The texts of a column; None where the value is null or no string."""
    values = [record.values[column] for record in formats.arrow_records(table.select([column]))]
    if is_json_text(table.schema.field(column)):
        values = [None if value is None else json.loads(value) for value in values]
    return [value if isinstance(value, str) else None for value in values]


def is_json_text(field: pa.Field) -> bool:
    return dict(field.metadata or {}).items() >= JSON_TEXT.items()


def _check_has(path: Path, column: str, setting: str) -> None:
    names = formats.column_names(path)
    if column not in names:
        raise ValueError(
            f"{path} has no column {column!r}; it has {', '.join(map(repr, names))}: name one with {setting}"
        )


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        check(kind)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    )


def _schema(files: Sequence[Path]) -> pa.Schema:
    kinds = sorted({formats.format_of(path) for path in files})
    if len(kinds) > 1:
        raise ValueError(f"the input holds files of several formats ({', '.join(kinds)}): take each format apart")
    fields: dict[str, pa.Field] = {}
    if kinds == [".jsonl"]:
        for path in files:
            _add_json(fields, path)
        return pa.schema(fields.values())
    schemas = [_parquet_schema(path) if kinds == [".parquet"] else _csv_schema(path) for path in files]
    for path, schema in zip(files, schemas, strict=True):
        for field in schema:
            merged = _merged(fields.get(field.name, field), field)
            if merged is None:
                raise ValueError(
                    f"column {field.name!r} is {field.type} in {path} and {fields[field.name].type} in a file before: "
                    "take files of different types apart"
                )
            fields[field.name] = merged
    return pa.schema(fields.values(), schemas[0].metadata)


def _csv_schema(path: Path) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in formats.column_names(path)])


def _parquet_schema(path: Path) -> pa.Schema:
    with formats.parquet_file(path) as file:
        return file.schema_arrow


def _add_json(fields: dict[str, pa.Field], path: Path) -> None:
    for chunk in _chunks(path):
        rows = [item.values for item in chunk if isinstance(item, Record)]
        for name in dict.fromkeys(key for row in rows for key in row):
            found = _inferred(name, [row.get(name) for row in rows])
            before = fields.get(name, found)
            fields[name] = _merged(before, found) or pa.field(name, pa.string(), metadata=JSON_TEXT)


def _inferred(name: str, values: list[Any]) -> pa.Field:
    try:
        return pa.field(name, pa.array(values).type)
    except (pa.ArrowException, OverflowError, UnicodeError):  # mixed types, beyond 64 bits, lone surrogates
        return pa.field(name, pa.string(), metadata=JSON_TEXT)


def _merged(one: pa.Field, other: pa.Field) -> pa.Field | None:
    """The field that holds the values of both; None where there is none."""
    if is_json_text(one) or is_json_text(other):
        return one if is_json_text(one) else other
    try:
        return pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except pa.ArrowException:
        return None


def _array(values: list[Any], field: pa.Field) -> pa.Array:
    if is_json_text(field):
        values = [None if value is None else json.dumps(value) for value in values]
    elif pa.types.is_floating(field.type):  # integers beyond 2^53 are rounded, as every reader of JSON doubles does
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, field.type)


def _valid_cell(cell: str | None) -> str | None:
    """A csv cell, its bytes that no encoding has as question marks, which Arrow needs."""
    return None if cell is None else cell.encode("utf-8", "replace").decode("utf-8")


def _chunks(path: Path) -> Iterator[list[Record | Malformed]]:
    """Rows of a file, `CHUNK_ROWS` at a time: the same ones for finding the types and for reading."""
    rows = formats.records(path)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def _parquet_tables(path: Path) -> Iterator[pa.Table]:
    with formats.parquet_file(path) as file:
        for batch in file.iter_batches(batch_size=CHUNK_ROWS):
            yield pa.Table.from_batches([batch])


def resized(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows`, the last one shorter."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= rows:
            together = pa.concat_tables(held)
            yield together.slice(0, rows)
            held = [together.slice(rows)]
    if sum(map(len, held)):
        yield pa.concat_tables(held)

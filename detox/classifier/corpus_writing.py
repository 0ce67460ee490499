"""Tables written as one file: parquet, csv, tsv or JSON lines, here or on an object store, whole or not at all.

Parquet keeps every type. JSON lines give each value as JSON has it (what JSON does not have, such as dates, as text;
NaN as null). In csv, lists and structures are JSON text. A column of JSON text (`corpus_reading`) comes out as the
values that it holds; in parquet and csv, which have no mixed columns, its strings as they are and the rest as JSON.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from detox.classifier.corpus_reading import is_json_text
from detox.data.formats import COMPRESSIONS, arrow_records, decode, format_of
from detox.runs.storage import Storage

BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
Write = Callable[[pa.Table], None]


def check_output(output: str) -> None:
    """Refuse an output that could not be written, before any work; makes its folder.

    Raises:
        ValueError: no output, an unknown format, or a folder that cannot be written; says what to do.
    """
    if not output:
        raise ValueError("no output is given: name a parquet, csv, tsv or jsonl file with --output")
    if _ending(output).suffix in COMPRESSIONS and format_of(_ending(output)) == ".parquet":
        raise ValueError(f"--output {output}: parquet compresses itself, so leave out {_ending(output).suffix}")
    format_of(_ending(output))
    place = Storage(output)
    if place.is_local and place.local_path.is_dir():
        raise ValueError(f"--output {output} is a folder: name a file in it, for example scores.parquet")
    probe = f"{place.path}.{os.getpid()}.probe"
    try:
        place.filesystem.create_dir(place.path.rsplit("/", 1)[0], recursive=True)
        with place.filesystem.open_output_stream(probe, compression=None):
            pass
        place.filesystem.delete_file(probe)
    except OSError as error:
        raise ValueError(f"--output {output} cannot be written ({error}): name a file elsewhere") from None


@contextmanager
def output_file(
    output: str, schema: pa.Schema, floats: set[str], before_move: Callable[[int], None]
) -> Iterator[Write]:
    """`write(table)` appends to the file, which appears when the block ends without an error.

    A local file is made under a temporary name beside its own. A remote one is made in the folder for temporary files
    (`TMPDIR`), which needs room for it, and copied: an object store takes a stream for whole whenever it is closed.

    Args:
        output: path or URI; its ending names the format.
        schema: of the tables that will be written.
        floats: float32 columns that are new, written with the digits that tell one float32 from another.
        before_move: called with the size in bytes just before the whole file takes its name.
    """
    place = Storage(output)
    with ExitStack() as stack:
        if place.is_local:
            making = Path(f"{place.path}.{os.getpid()}.part")
        else:
            making = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detox-output-"))) / "part"
        stack.callback(making.unlink, missing_ok=True)
        with (
            pa.output_stream(making, compression=COMPRESSIONS.get(_ending(output).suffix)) as file,
            _writer(format_of(_ending(output)), file, schema, floats) as write,
        ):
            yield write
        before_move(making.stat().st_size)
        if place.is_local:
            os.replace(making, place.path)
        else:
            pafs.copy_files(str(making), place.path, pafs.LocalFileSystem(), place.filesystem)


def _ending(output: str) -> Path:
    """The path of a URI, without its query."""
    return Path(output.partition("?")[0] if "://" in output else output)


@contextmanager
def _writer(kind: str, file: Any, schema: pa.Schema, floats: set[str]) -> Iterator[Write]:
    if kind == ".jsonl":
        yield lambda table: file.write(_json_lines(table, floats))
        return
    convert = _natural if kind == ".parquet" else _flat
    first = convert(schema.empty_table())
    if kind == ".parquet":
        with pq.ParquetWriter(file, first.schema, compression="zstd") as parquet:
            yield lambda table: parquet.write_table(convert(table))
        return
    options = pa_csv.WriteOptions(delimiter="\t" if kind == ".tsv" else ",")
    with pa_csv.CSVWriter(file, first.schema, write_options=options) as rows:
        yield lambda table: rows.write_table(convert(table))


def _json_lines(table: pa.Table, floats: set[str]) -> bytes:
    mixed = {field.name for field in table.schema if is_json_text(field)}
    lines = []
    for record in arrow_records(table):
        row = {
            name: json.loads(value)
            if name in mixed and value is not None
            else _shortest(value)
            if name in floats
            else _plain(value)
            for name, value in record.values.items()
        }
        lines.append(json.dumps(row, ensure_ascii=False, default=str))
    # a lone surrogate becomes its JSON escape
    return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _shortest(value: float | None) -> float | None:
    return None if value is None else float(str(np.float32(value)))


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _natural(table: pa.Table) -> pa.Table:
    """Columns of JSON text as plain strings."""
    for index, field in enumerate(table.schema):
        if is_json_text(field):
            values = [_as_text(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, pa.field(field.name, pa.string()), pa.array(values, pa.string()))
    return table


def _as_text(value: str | None) -> str | None:
    decoded = None if value is None else json.loads(value)
    return _encodable(decoded) if isinstance(decoded, str) else value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _flat(table: pa.Table) -> pa.Table:
    """Columns that csv can hold: lists and structures as JSON text, dictionaries as their values, bytes as text."""
    table = _natural(table)
    for index, field in enumerate(table.schema):
        column: Any = table.column(index)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            values = column.to_pylist()
            dumped = [
                None if value is None else json.dumps(_plain(value), ensure_ascii=False, default=str)
                for value in values
            ]
            column = pa.array(dumped, pa.string())
        elif pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        elif any(is_kind(column.type) for is_kind in BYTES):
            texts = [None if value is None else _encodable(decode(value)[0]) for value in column.to_pylist()]
            column = pa.array(texts, pa.string())
        table = table.set_column(index, field.name, column)
    return table

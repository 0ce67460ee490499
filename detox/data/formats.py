"""Local files as a stream of records: csv, tsv, JSON lines and parquet, plain, `.gz` or `.zst`, in bounded memory.

A row that cannot be read is yielded as `Malformed` and never stops the stream; a file that is broken as a whole is a
`ValueError` that names it and says what to do.

Encoding: a line is UTF-8 (with or without a byte-order mark). One that is not is read as cp1252, the usual stranger in
an English corpus, and its record is marked `repaired`. Where cp1252 does not fit either, the bytes stay in the text as
lone surrogates (PEP 383), which `detox.data.reading` refuses: another guess would turn them into noise.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS: tuple[str, ...] = (".csv", ".tsv", ".jsonl", ".parquet")
COMPRESSIONS: dict[str, str] = {".gz": "gzip", ".zst": "zstd"}
MAX_LINE_BYTES = 1 << 24  # a longer "line" is not a row of text; without a limit it would be read into memory whole
MAX_FIELD_CHARS = 1 << 22  # of csv and tsv; a quote that is never closed costs a search of that many characters
MAX_SKIPPED_CHARS = 1 << 24  # of a field that is longer: how far its end is searched, so that the row is refused once
PEEKED_RECORDS = 1000
PARQUET_BATCH_ROWS = 1024


class Record(NamedTuple):
    """A row as it stands in its file; `repaired`: bytes that were not UTF-8 were read as cp1252."""

    values: dict[str, Any]
    repaired: bool = False


class Malformed(NamedTuple):
    """A row that its format does not allow, with the raw text."""

    text: str
    reason: str


class _Line(NamedTuple):
    text: str
    repaired: bool


def format_of(path: Path) -> str:
    """The format named by the ending, without compression: one of `FORMATS`.

    Raises:
        ValueError: another ending.
    """
    plain = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    if plain.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path} has an unknown ending: data files end in {', '.join(FORMATS)} (JSON: one object a line), each "
            f"plain or followed by {' or '.join(COMPRESSIONS)}"
        )
    return plain.suffix.lower()


def column_names(path: Path) -> tuple[str, ...]:
    """Columns of a file; for JSON lines the keys of its first 1,000 objects.

    Raises:
        ValueError: an unknown ending, a broken file, no rows, no row that can be read, a column named twice.
    """
    kind = format_of(path)
    with _explained(path):
        if kind == ".parquet":
            with parquet_file(path) as file:
                names, empty = file.schema_arrow.names, file.metadata.num_rows == 0
        else:
            head = list(islice(records(path), PEEKED_RECORDS))
            good = [item.values for item in head if isinstance(item, Record)]
            bad = [item.reason for item in head if isinstance(item, Malformed)]
            if bad and not good:
                raise ValueError(f"{path} holds no row that can be read as {kind}; the first: {bad[0]}")
            names = _header(path) if kind != ".jsonl" else list(dict.fromkeys(key for row in good for key in row))
            empty = not head
    if empty:
        raise ValueError(f"{path} holds no rows: leave the file out, or make it again")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names these columns twice: {', '.join(twice)}; rename one of each")
    return tuple(names)


def parquet_rows(path: Path) -> int:
    """Rows of a parquet file, from its footer.

    Raises:
        ValueError: a broken file.
    """
    with _explained(path), parquet_file(path) as file:
        return int(file.metadata.num_rows)


def records(path: Path, columns: Iterable[str] = ()) -> Iterator[Record | Malformed]:
    """Rows of a file in their order; memory holds a batch of them.

    Args:
        columns: the columns to read from parquet; empty: all. The other formats give every column.

    Raises:
        ValueError: an unknown ending, or a file that is broken as a whole (truncated, not what its ending says).
    """
    kind = format_of(path)
    with _explained(path):
        if kind == ".parquet":
            yield from _parquet_records(path, list(columns) or None)
        elif kind == ".jsonl":
            yield from _json_records(_lines(path))
        else:
            yield from _csv_records(_lines(path), _delimiter(path))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the libraries say of a broken file, as a `ValueError` that names the file."""
    try:
        yield
    except csv.Error as error:
        raise ValueError(f"{path} has no readable header line ({error}): the first line names the columns") from None
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"{path} does not exist: check the path") from None
        raise ValueError(f"{path} cannot be read ({error}): the file is broken or cut off; fetch it again") from None


def _lines(path: Path) -> Iterator[_Line]:
    """Lines, ending included, decoded one by one."""
    # compression by ending: pyarrow would also guess from other endings
    with io.BufferedReader(pa.input_stream(str(path), compression=COMPRESSIONS.get(path.suffix))) as stream:
        first = stream.readline(MAX_LINE_BYTES)
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError(f"{path} is UTF-16: convert it, for example `iconv -f UTF-16 -t UTF-8`")
        raw = first.removeprefix(b"\xef\xbb\xbf")
        while raw:
            yield _Line(*decode(raw))
            raw = stream.readline(MAX_LINE_BYTES)


def decode(raw: bytes) -> tuple[str, bool]:
    """`raw` as text, and whether it took cp1252 to read it; bytes that neither encoding has become surrogates."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), True
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape"), False


class _LineFeed(Iterator[str]):
    """Lines for `csv.reader`; remembers those of the current record, so that a broken one gives them back."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self._returned: deque[_Line] = deque()
        self.taken: list[_Line] = []

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.taken.append(line)
        return line.text

    def give_back(self, lines: list[_Line]) -> None:
        """Return lines for another try."""
        self._returned.extendleft(reversed(lines))

    @property
    def text(self) -> str:
        """The raw text of the current record."""
        return "".join(line.text for line in self.taken)


def _delimiter(path: Path) -> str:
    return "\t" if format_of(path) == ".tsv" else ","


def _header(path: Path) -> list[str]:
    rows = csv.reader((line.text for line in _lines(path)), delimiter=_delimiter(path), strict=True)
    return next(filter(None, rows), [])


def _csv_records(lines: Iterator[_Line], delimiter: str) -> Iterator[Record | Malformed]:
    """Rows after the header. A quoted field may hold newlines; an unbalanced quote costs its own line only."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    feed = _LineFeed(lines)
    # strict: without it an unbalanced quote silently swallows the rows after it
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        feed.taken = []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not header:
                raise
            if len(feed.text) > MAX_FIELD_CHARS and _skip_field(reader, feed):
                yield Malformed(feed.text, f"a field of more than {MAX_FIELD_CHARS:,} characters")
            else:
                yield Malformed(feed.taken[0].text, str(error))
                feed.give_back(feed.taken[1:])
            continue
        if not header:
            header = fields
        elif len(fields) == len(header):
            yield Record(dict(zip(header, fields, strict=True)), any(line.repaired for line in feed.taken))
        elif fields:
            yield Malformed(feed.text, f"{len(fields)} fields, and the header names {len(header)}")


def _skip_field(reader: Iterator[list[str]], feed: _LineFeed) -> bool:
    """Read on to the end of a record with a field of more than `MAX_FIELD_CHARS`; False if none is found within
    `MAX_SKIPPED_CHARS`, as after a quote that is never closed."""
    begun, feed.taken = feed.taken, []
    feed.give_back(begun)
    csv.field_size_limit(MAX_SKIPPED_CHARS)
    try:
        next(reader)
    except csv.Error:
        return False
    finally:
        csv.field_size_limit(MAX_FIELD_CHARS)
    return True


def _json_records(lines: Iterator[_Line]) -> Iterator[Record | Malformed]:
    for line in lines:
        if not line.text.strip():
            continue
        try:
            value = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield Malformed(line.text, f"not JSON: {error}")
            continue
        if isinstance(value, dict):
            yield Record(value, line.repaired)
        else:
            yield Malformed(line.text, f"a JSON {type(value).__name__}, and a row is an object")


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """A parquet file opened; a compressed one is unpacked into a temporary file, since parquet is read by seeking."""
    if path.suffix not in COMPRESSIONS:
        with pq.ParquetFile(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as unpacked:
        with pa.input_stream(str(path), compression=COMPRESSIONS[path.suffix]) as packed:
            shutil.copyfileobj(packed, unpacked)
        with pq.ParquetFile(_rewound(unpacked)) as file:
            yield file


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _parquet_records(path: Path, columns: list[str] | None) -> Iterator[Record]:
    with parquet_file(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=columns):
            yield from arrow_records(batch)


def arrow_records(batch: pa.RecordBatch | pa.Table) -> Iterator[Record]:
    """Rows of an Arrow batch; strings may hold any bytes, which `decode` reads."""
    if not any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in batch.schema.types):
        try:
            yield from map(Record, batch.to_pylist())
            return
        except UnicodeDecodeError:
            pass
    for row in batch.cast(pa.schema([field.with_type(_as_binary(field.type)) for field in batch.schema])).to_pylist():
        decoded = {key: decode(value) if isinstance(value, bytes) else (value, False) for key, value in row.items()}
        yield Record({key: value for key, (value, _) in decoded.items()}, any(flag for _, flag in decoded.values()))


def _as_binary(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    return pa.binary() if pa.types.is_string(kind) else kind

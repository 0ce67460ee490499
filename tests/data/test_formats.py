"""Files of every format and compression, whole, dirty and broken."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.formats import Malformed, Record, column_names, decode, format_of, records

ROWS = [
    {"text": "plain", "toxic": "0"},
    {"text": 'a "quoted", word', "toxic": "1"},
    {"text": "two\nlines\r\nor three", "toxic": "0.5"},
    {"text": "ünïcode — 你好", "toxic": ""},
]
ENDINGS = ["csv", "tsv", "jsonl", "parquet"]


def write(path: Path, rows: list[dict[str, str]], compression: str) -> Path:
    plain = path.with_suffix("") if compression else path
    kind = plain.suffix
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), plain)
    elif kind == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with plain.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t" if kind == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    if compression:
        with pa.output_stream(str(path), compression=compression) as out:
            out.write(plain.read_bytes())
        plain.unlink()
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("suffix", "compression"), [("", ""), (".gz", "gzip"), (".zst", "zstd")])
def test_every_format_and_compression_gives_the_rows_back(
    tmp_path: Path, ending: str, suffix: str, compression: str
) -> None:
    path = write(tmp_path / f"comments.{ending}{suffix}", ROWS, compression)
    assert column_names(path) == ("text", "toxic")
    assert [item.values for item in records(path) if isinstance(item, Record)] == ROWS
    assert len(list(records(path))) == len(ROWS)


FIELD = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_any_quoted_csv_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("csv") / "quoted.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b"), *rows])
    assert list(records(path)) == [Record({"a": a, "b": b}) for a, b in rows]


@given(st.binary(max_size=300))
def test_no_bytes_are_lost_or_stop_the_stream(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    """One column whose name no byte of the noise touches: each line with something in it is a row or is malformed."""
    path = tmp_path_factory.mktemp("noise") / "noise.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + noise)
    items = list(records(path))
    assert items[0] == Record({"text": "first"})
    expected = sum(bool(decode(line)[0].strip()) for line in noise.split(b"\n"))
    assert len(items) == 1 + expected


def test_an_unbalanced_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "stray.csv"
    path.write_text('text,toxic\ngood,0\n"never closed,1\nalso good,0\n"closed ""here""",1\n', encoding="utf-8")
    items = list(records(path))
    assert items[0] == Record({"text": "good", "toxic": "0"})
    assert isinstance(items[1], Malformed)
    assert items[1].text == '"never closed,1\n'
    assert items[2:] == [
        Record({"text": "also good", "toxic": "0"}),
        Record({"text": 'closed "here"', "toxic": "1"}),
    ]


@pytest.mark.parametrize(("longest", "skipped"), [(1 << 22, 1 << 24), (2000, 1 << 24), (2000, 4000)])
def test_an_unbalanced_quote_at_the_end_and_in_an_endless_field(
    longest: int, skipped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 20,000 lines of 10 after the quote end within the limits, or beyond one or both: all of them come back."""
    monkeypatch.setattr("detox.data.formats.MAX_FIELD_CHARS", longest)
    monkeypatch.setattr("detox.data.formats.MAX_SKIPPED_CHARS", skipped)
    path = tmp_path / "endless.csv"
    path.write_text('text,toxic\n"never closed,1\n' + "comment, 0\n" * 20_000, encoding="utf-8")
    items = list(records(path))
    assert isinstance(items[0], Malformed)
    assert items[0].text == '"never closed,1\n'
    assert len(items) == 20_001
    assert all(isinstance(item, Record) for item in items[1:])


def test_long_fields_are_read_and_longer_ones_refused_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a talk archive has 200,000 characters. What lies within a field is never taken for rows."""
    page = 'spam,1\n"quoted" line,0\n' * 9000
    path = tmp_path / "long.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "toxic"), (page, 0), ("after", 1)])
    after = Record({"text": "after", "toxic": "1"})
    assert list(records(path)) == [Record({"text": page, "toxic": "0"}), after]
    monkeypatch.setattr("detox.data.formats.MAX_FIELD_CHARS", 100_000)
    refused, last = records(path)
    assert refused == Malformed('"' + page.replace('"', '""') + '",0\n', "a field of more than 100,000 characters")
    assert last == after
    assert csv.field_size_limit() == 100_000


def test_a_row_with_other_fields_than_the_header_is_malformed_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("text,toxic\n\na,0,7\nb\nc,1\n", encoding="utf-8")
    assert list(records(path)) == [
        Malformed("a,0,7\n", "3 fields, and the header names 2"),
        Malformed("b\n", "1 fields, and the header names 2"),
        Record({"text": "c", "toxic": "1"}),
    ]


def test_json_lines_that_are_no_objects_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"text": "a"}\n[1, 2]\n{"text": \n\n{"text": "b", "toxic": NaN}\n', encoding="utf-8")
    first, array, cut, last = records(path)
    assert first == Record({"text": "a"})
    assert array == Malformed("[1, 2]\n", "a JSON list, and a row is an object")
    assert isinstance(cut, Malformed)
    assert cut.reason.startswith("not JSON")
    assert isinstance(last, Record)
    assert last.values["text"] == "b"
    assert column_names(path) == ("text", "toxic")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_bytes(b"\xef\xbb\xbftext,toxic\nhi,0\n")
    assert column_names(path) == ("text", "toxic")
    assert list(records(path)) == [Record({"text": "hi", "toxic": "0"})]


def test_mixed_encodings_are_read_line_by_line(tmp_path: Path) -> None:
    """0xE9 is e-acute in cp1252 and broken UTF-8; 0x81 is in neither (cp1252 leaves it undefined)."""
    path = tmp_path / "mixed.csv"
    path.write_bytes("text,toxic\ncafé,0\n".encode() + b"caf\xe9,0\n" + b"caf\x81,0\n")
    utf8, cp1252, neither = records(path)
    assert utf8 == Record({"text": "café", "toxic": "0"}, repaired=False)
    assert cp1252 == Record({"text": "café", "toxic": "0"}, repaired=True)
    assert neither == Record({"text": "caf\udc81", "toxic": "0"}, repaired=False)


def test_parquet_strings_of_any_bytes_are_decoded_like_lines(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9", None], pa.binary())
    texts = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    pq.write_table(pa.table({"text": texts, "toxic": [0, 1, 0]}), tmp_path / "bytes.parquet")
    assert list(records(tmp_path / "bytes.parquet")) == [
        Record({"text": "fine", "toxic": 0}, repaired=False),
        Record({"text": "café", "toxic": 1}, repaired=True),
        Record({"text": None, "toxic": 0}, repaired=False),
    ]


def test_parquet_reads_the_columns_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.parquet", ROWS, "")
    assert next(iter(records(path, ["toxic"]))) == Record({"toxic": "0"})


@pytest.mark.parametrize("name", ["comments.txt", "comments.csv.zip", "comments", "comments.json"])
def test_an_unknown_ending_names_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"comments.*unknown ending.*\.csv, \.tsv, \.jsonl, \.parquet.*\.gz or \.zst"):
        format_of(Path(name))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("suffix", "compression"), [(".gz", "gzip"), (".zst", "zstd")])
def test_a_file_cut_off_says_so(tmp_path: Path, ending: str, suffix: str, compression: str) -> None:
    rows = [{"text": f"comment {number * 7919 % 10007}", "toxic": "0"} for number in range(2000)]
    path = write(tmp_path / f"cut.{ending}{suffix}", rows, compression)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"cut\.{ending}.*broken or cut off; fetch it again"):
        list(records(path))


def test_a_truncated_parquet_and_one_that_is_none_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "short.parquet", ROWS, "")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"short\.parquet cannot be read .*broken or cut off"):
        column_names(path)
    (tmp_path / "fake.csv.gz").write_bytes(b"text,toxic\nplain,0\n")
    with pytest.raises(ValueError, match=r"fake\.csv\.gz cannot be read"):
        column_names(tmp_path / "fake.csv.gz")


def test_files_that_are_wrong_as_a_whole(tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes, str]] = {
        "empty.csv": (b"", "holds no rows"),
        "header.csv": (b"text,toxic\n", "holds no rows"),
        "twice.csv": (b"text,toxic,text\na,0,b\n", "names these columns twice: text"),
        "wide.csv": ("text,toxic\na,0\n".encode("utf-16"), "UTF-16.*iconv"),
        "array.jsonl": (b'[{"text": "a"}]\n', "holds no row that can be read as .jsonl; the first: a JSON list"),
        "quote.csv": (b'"text,toxic\na,0\n', "no readable header"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}.*{message}"):
            column_names(tmp_path / name)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"none\.parquet holds no rows"):
        column_names(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"gone\.csv does not exist"):
        column_names(tmp_path / "gone.csv")


def test_rows_come_before_the_file_has_been_read_to_its_end(tmp_path: Path) -> None:
    """A file cut off near its end gives its first rows, so it cannot have been read whole before."""
    lines = "".join(json.dumps({"text": f"comment {number * 7919 % 100003}"}) + "\n" for number in range(50_000))
    path = tmp_path / "long.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-500])
    stream = records(path)
    assert next(stream) == Record({"text": "comment 0"})
    with pytest.raises(ValueError, match=r"long\.jsonl\.gz"):
        list(stream)

"""The stream: row numbers, splits, labels, refusals, limits, several sources, prepared folders."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.reading import BATCH_ROWS, RefusedError, checked_label, checked_split, checked_text, read
from detox.data.settings import DataSettings


def write_lines(path: Path, rows: Iterable[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(settings: DataSettings) -> list[dict[str, Any]]:
    return [row for batch in read(settings) for row in batch.rows.to_pylist()]


def rejects_of(settings: DataSettings) -> list[dict[str, Any]]:
    return [row for batch in read(settings) for row in batch.rejects.to_pylist()]


def test_rows_carry_number_source_text_split_and_float32_labels(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [{"text": "hi", "toxic": 1, "part": "dev"}, {"text": "ho", "part": ""}])
    reader = read(DataSettings(source=(file,), label_columns=("toxic",), split_column="part"))
    (batch,) = reader
    assert batch.rows.schema == reader.schema
    assert reader.schema.field("row").type == pa.int64()
    assert reader.schema.field("toxic").type == pa.float32()
    assert batch.rows.to_pylist() == [
        {"row": 0, "source": "a.jsonl", "text": "hi", "split": "validation", "toxic": 1.0},
        {"row": 1, "source": "a.jsonl", "text": "ho", "split": None, "toxic": None},
    ]


def test_bad_rows_are_refused_with_rule_and_reason_and_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    lines = [
        '{"text": "fine", "toxic": 0, "part": "train"}',
        '{"text": null, "toxic": 0}',
        '{"text": 7, "toxic": 0}',
        '{"text": "a", "toxic": 1.5}',
        '{"text": "b", "toxic": "often"}',
        '{"text": "c", "toxic": [1]}',
        "{broken",
        '{"text": "d \\ud800", "toxic": 0}',
        '{"text": "e", "toxic": 0, "part": "holdout"}',
        '{"text": "fine too", "toxic": "nan", "part": "test"}',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = DataSettings(source=(str(path),), label_columns=("toxic",), split_column="part")
    assert [(row["row"], row["text"], row["toxic"]) for row in rows_of(settings)] == [
        (0, "fine", 0.0),
        (9, "fine too", None),
    ]
    refused = rejects_of(settings)
    assert [(row["row"], row["rule"]) for row in refused] == [
        (1, "text_not_a_string"),
        (2, "text_not_a_string"),
        (3, "label_invalid"),
        (4, "label_invalid"),
        (5, "label_invalid"),
        (6, "malformed_row"),
        (7, "undecodable_bytes"),
        (8, "split_unknown"),
    ]
    assert refused[0]["text"] is None
    assert refused[2]["reason"] == "label toxic is 1.5, outside 0..1"
    assert refused[3]["reason"] == "label toxic is 'often', which is not a number"
    assert refused[6]["text"] == "d \\ud800"
    assert "holdout" in refused[7]["reason"]
    assert {row["source"] for row in refused} == {"bad.jsonl"}


def test_repaired_encodings_are_counted_and_hopeless_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    path.write_bytes("text\ncafé\n".encode() + b"caf\xe9\n" + b"caf\x81\n")
    (batch,) = read(DataSettings(source=(str(path),)))
    assert batch.rows.column("text").to_pylist() == ["café", "café"]
    assert batch.encoding_repaired == 1
    assert batch.rejects.column("rule").to_pylist() == ["undecodable_bytes"]
    assert batch.rejects.column("text").to_pylist() == ["caf\\udc81"]


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.dictionaries(st.text(), st.text())), max_size=30))
def test_every_record_is_a_row_or_a_reject_once(tmp_path_factory: pytest.TempPathFactory, texts: list[Any]) -> None:
    path = tmp_path_factory.mktemp("all") / "all.jsonl"
    file = write_lines(path, [{"text": "first"}, *({"text": text} for text in texts)])
    numbers = [
        number
        for batch in read(DataSettings(source=(file,)))
        for number in (*batch.rows.column("row").to_pylist(), *batch.rejects.column("row").to_pylist())
    ]
    assert sorted(numbers) == list(range(1 + len(texts)))


def test_row_numbers_run_over_sources_and_a_reader_can_be_read_again(tmp_path: Path) -> None:
    a = write_lines(tmp_path / "a.jsonl", [{"text": "1"}, {"text": "2"}])
    b = write_lines(tmp_path / "b.jsonl", [{"text": None}, {"text": "3"}])
    reader = read(DataSettings(source=(b, a)))
    for _ in range(2):
        (batch,) = reader
        assert batch.rows.column("row").to_pylist() == [1, 2, 3]
        assert batch.rows.column("source").to_pylist() == ["b.jsonl", "a.jsonl", "a.jsonl"]
        assert batch.rejects.column("row").to_pylist() == [0]


def test_a_glob_is_one_source_in_the_order_of_names_and_the_limit_is_for_each_source(tmp_path: Path) -> None:
    for name in "b", "a", "c":
        write_lines(tmp_path / f"part-{name}.jsonl", [{"text": f"{name}{number}"} for number in range(2)])
    other = write_lines(tmp_path / "other.jsonl", [{"text": f"o{number}"} for number in range(4)])
    settings = DataSettings(source=(str(tmp_path / "part-*.jsonl"), other), limit=3)
    assert [row["text"] for row in rows_of(settings)] == ["a0", "a1", "b0", "o0", "o1", "o2"]
    assert [origin.files for origin in read(settings).origins] == [
        tuple(tmp_path / f"part-{name}.jsonl" for name in "abc"),
        (tmp_path / "other.jsonl",),
    ]


def test_batches_are_bounded_in_rows_and_in_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_lines(tmp_path / "many.jsonl", ({"text": f"row {number}"} for number in range(BATCH_ROWS + 1)))
    assert [batch.rows.num_rows for batch in read(DataSettings(source=(file,)))] == [BATCH_ROWS, 1]
    monkeypatch.setattr("detox.data.reading.BATCH_CHARS", 10)
    file = write_lines(tmp_path / "long.jsonl", [{"text": "x" * 6}] * 4)
    assert [batch.rows.num_rows for batch in read(DataSettings(source=(file,)))] == [2, 2]


def test_files_without_label_columns_have_none(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [{"comment": "hi", "toxic": 1}])
    assert rows_of(DataSettings(source=(file,), text_column="comment")) == [
        {"row": 0, "source": "a.jsonl", "text": "hi", "split": None}
    ]


def test_a_prepared_folder_reads_back_with_its_labels_and_the_splits_that_hold_rows(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": ["toxic"]}), encoding="utf-8")
    for split in "train", "validation", "test":
        pq.write_table(pa.table({"row": [0], "text": [f"of {split}"], "toxic": [0.25]}), tmp_path / f"{split}.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "validation.parquet")
    rows = rows_of(DataSettings(source=(str(tmp_path),)))
    assert [(row["text"], row["split"], row["toxic"]) for row in rows] == [
        ("of train", "train", 0.25),
        ("of test", "test", 0.25),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": ()}, "no data source is given.*--data.source"),
        ({"source": ("jigsaw2081",)}, "no source is named 'jigsaw2081': did you mean 'jigsaw2018'.*civil_comments"),
        ({"source": ("{tmp}/*.csv",)}, r"no file matches .*\*\.csv"),
        ({"source": ("{tmp}/gone.csv",)}, r"no file matches .*gone\.csv"),
        ({"source": ("{tmp}/notes.txt",)}, r"notes\.txt has an unknown ending"),
        ({"source": ("{tmp}",)}, "holds no dataset.json.*prepare_data"),
        (
            {"source": ("{tmp}/a.jsonl",), "text_column": "txet"},
            r"a\.jsonl has no column 'txet' \(did you mean 'text'\?\); it has 'text', 'toxic', 'split': name the",
        ),
        (
            {"source": ("{tmp}/a.jsonl",), "label_columns": ("insult",)},
            "has no column 'insult'; it has 'text', 'toxic'",
        ),
        ({"source": ("{tmp}/a.jsonl",), "label_columns": ("split",)}, "none row, source, text, split"),
        ({"source": ("{tmp}/a.jsonl",), "label_columns": ("toxic", "toxic")}, "each is named once"),
        ({"source": ("synthetic",), "label_columns": ("rude",)}, "'synthetic' has no label 'rude': it has toxic, "),
    ],
)
def test_what_is_wrong_as_a_whole_stops_before_any_work(tmp_path: Path, settings: dict, message: str) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "hi", "toxic": 1, "split": "train"}])
    (tmp_path / "notes.txt").write_text("hi\n", encoding="utf-8")
    source = tuple(entry.format(tmp=tmp_path) for entry in settings["source"])
    with pytest.raises(ValueError, match=message):
        read(DataSettings(**{**settings, "source": source}))


@pytest.mark.parametrize("value", [None, "", "nan", "NaN", " null ", "None", math.nan])
def test_missing_labels_are_missing(value: Any) -> None:
    assert checked_label("toxic", value) is None


@given(st.floats(0, 1))
def test_fractions_are_kept_however_they_are_spelt(value: float) -> None:
    assert checked_label("toxic", value) == checked_label("toxic", repr(value)) == value


@pytest.mark.parametrize("value", [-1, "-1", 1.0001, math.inf, "yes", [0], {}, b"x"])
def test_other_labels_are_refused(value: Any) -> None:
    with pytest.raises(RefusedError, match="label toxic is"):
        checked_label("toxic", value)


def test_long_values_are_cut_in_the_reason() -> None:
    with pytest.raises(RefusedError) as refusal:
        checked_label("toxic", "x" * 1000)
    assert len(str(refusal.value)) < 150


@pytest.mark.parametrize(("given_name", "split"), [("Train", "train"), (" dev", "validation"), ("valid", "validation")])
def test_split_names_are_normalised(given_name: str, split: str) -> None:
    assert checked_split(given_name) == split


@given(st.text(st.characters(codec="utf-8")))
def test_any_valid_text_is_kept_as_it_is(text: str) -> None:
    assert checked_text(text) == text

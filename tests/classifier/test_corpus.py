"""Scoring a corpus: every column and type kept, order, names of score columns, rows without text, resuming."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.classifier import corpus
from detox.classifier.corpus import Plan, Written, free_names
from detox.classifier.corpus_reading import open_corpus, resized
from detox.classifier.corpus_writing import check_output
from detox.classifier.score_columns import ScoreColumns
from detox.classifier.scorer import Scores
from detox.runs.storage import Storage


class LengthScorer:
    """Scores that can be worked out by hand: characters / 100, and whether the text says "idiot"."""

    labels = ("length", "toxic")

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, texts: Sequence[str]) -> Scores:
        self.texts += texts
        values = [[min(len(text), 100) / 100, float("idiot" in text)] for text in texts]
        return Scores(self.labels, np.array(values, np.float32).reshape(len(texts), 2))


def scored(path: Path | str, output: Path, rows: int = 3, column: str = "text") -> Written:
    """The whole way, in this process; the run directory lies beside the output."""
    opened = open_corpus(str(path), column)
    run, scorer = Storage(output.parent / "run"), LengthScorer()
    plan = corpus.stage(opened, run, scorer.labels, rows, {"input": [], "model": {}})
    for number in corpus.unfinished(run, plan):
        corpus.finish_shard(run, plan, ScoreColumns(scorer, column), number)
    sizes: list[int] = []
    written = corpus.assemble(run, plan, str(output), sizes.append)
    assert sizes == [output.stat().st_size]
    assert not list(output.parent.glob("*.part"))
    return written


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_parquet_keeps_every_type_and_the_order(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "id": pa.array([2**62, 1, None, 3, 4, 5, 6], pa.int64()),
            "text": pa.array(["you idiot", None, "été 猫", "", "x" * 50, "a\nb", "'\""], pa.large_string()),
            "when": pa.array([when] * 7, pa.timestamp("us", tz="UTC")),
            "tags": pa.array([["a"], [], None, ["b", "c"], [], [], []], pa.list_(pa.string())),
            "price": pa.array([None, *[1] * 6], pa.decimal128(9, 2)),
            "kind": pa.array(["x", "y", "x", "y", "x", None, "x"]).dictionary_encode(),
            "raw": pa.array([b"\xff"] * 7, pa.binary()),
            "at": pa.array([{"line": 1}] * 7),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    assert scored(tmp_path / "in.parquet", tmp_path / "out.parquet") == Written(7, 1)
    output = pq.read_table(tmp_path / "out.parquet")
    assert output.column_names == [*table.column_names, "length", "toxic"]
    assert output.select(table.column_names).equals(table)
    assert output.schema.field("length").type == pa.float32()
    lengths = [9, None, 5, 0, 50, 3, 2]
    assert output["length"].to_pylist() == [None if n is None else pytest.approx(n / 100) for n in lengths]
    assert output["toxic"].to_pylist() == [1, None, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".csv.gz", ".jsonl.zst"])
def test_text_formats_in_and_out(tmp_path: Path, ending: str) -> None:
    """csv to the format and back to JSON lines: quotes, commas, tabs, newlines and other scripts come through."""
    texts = ['he said "idiot", twice', "tab\there", "line\nbreak", "été 猫 🙂", ""]
    pa_csv.write_csv(pa.table({"id": [f"0{n}" for n in range(5)], "text": texts}), tmp_path / "in.csv")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    scored(tmp_path / "in.csv", tmp_path / "a" / f"out{ending}")
    scored(tmp_path / "a" / f"out{ending}", tmp_path / "b" / "back.jsonl")
    rows = json_lines(tmp_path / "b" / "back.jsonl")
    assert [row["text"] for row in rows] == texts
    assert [row["id"] for row in rows] == ["00", "01", "02", "03", "04"]
    assert [float(row["length"]) for row in rows] == [row["score_length"] for row in rows] == [0.22, 0.08, 0.1, 0.07, 0]


def test_json_lines_keep_mixed_and_late_columns(tmp_path: Path) -> None:
    """A column of several types, one that begins late, integers beside floats, and a text that is a number: each comes
    out of JSON lines as it went in, with null for an absent key."""
    rows: list[dict[str, Any]] = [
        {"text": "idiot", "mixed": 1, "number": 1, "deep": {"a": [1, None]}},
        {"text": 7, "mixed": "one", "number": 0.5, "deep": None},
        {"text": None, "mixed": [True], "number": None, "deep": {"a": []}},
        {"text": "no \ud800", "mixed": 2**70, "number": 3, "deep": None, "late": True},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scored(tmp_path / "in.jsonl", tmp_path / "out.jsonl", rows=2) == Written(4, 2)
    output = json_lines(tmp_path / "out.jsonl")
    assert [{key: row[key] for key in rows[0]} for row in output] == [*rows[:3], {k: rows[3][k] for k in rows[0]}]
    assert [row["late"] for row in output] == [None, None, None, True]
    assert [row["length"] for row in output] == [0.05, None, None, 0.04]


def test_mixed_columns_in_formats_without_them(tmp_path: Path) -> None:
    """Strings stay as they are, the rest is JSON; csv takes structures as JSON too."""
    lines = ['{"text": "a", "mixed": "one", "deep": {"x": [1]}}', '{"text": "b", "mixed": [1], "deep": {"x": []}}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    for name in ("parquet", "csv"):
        (tmp_path / name).mkdir()
        scored(tmp_path / "in.jsonl", tmp_path / name / f"out.{name}")
    table = pq.read_table(tmp_path / "parquet" / "out.parquet")
    assert table["mixed"].to_pylist() == ["one", "[1]"]
    assert table["deep"].to_pylist() == [{"x": [1]}, {"x": []}]
    rows = pa_csv.read_csv(tmp_path / "csv" / "out.csv")
    assert (rows["mixed"].to_pylist(), rows["deep"].to_pylist()) == (["one", "[1]"], ['{"x": [1]}', '{"x": []}'])


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_csv_holds_what_arrow_has_several_types_for(tmp_path: Path, ending: str) -> None:
    columns = {
        "text": pa.array(["ein", "zwei"], pa.string_view()),
        "raw": pa.array([b"gr\xfc\xdfe", None], pa.binary()),
        "view": pa.array([b"a", b"b"], pa.binary_view()),
        "kind": pa.array([b"x", b"\xfc"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    scored(tmp_path / "in.parquet", tmp_path / f"out.{ending}")
    options = pa_csv.ParseOptions(delimiter="," if ending == "csv" else "\t")
    rows = pa_csv.read_csv(tmp_path / f"out.{ending}", parse_options=options)
    found = rows.select(["text", "raw", "view", "kind"]).to_pydict()
    assert found == {"text": ["ein", "zwei"], "raw": ["grüße", ""], "view": ["a", "b"], "kind": ["x", "ü"]}


def test_a_glob_is_one_corpus(tmp_path: Path) -> None:
    """Files in the order of their names; a column that one of them lacks is null there."""
    pq.write_table(pa.table({"text": ["b1", "b2"], "n": pa.array([1, 2], pa.int32())}), tmp_path / "in-2.parquet")
    pq.write_table(pa.table({"n": pa.array([0], pa.int64()), "text": ["a"], "x": [9]}), tmp_path / "in-1.parquet")
    scored(tmp_path / "in-*.parquet", tmp_path / "out.parquet", rows=2)
    output = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert (output["n"], output["text"], output["x"]) == ([0, 1, 2], ["a", "b1", "b2"], [9, None, None])


def test_rows_that_cannot_be_read_are_kept_aside(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"id,text\n1,one\n2,two,three\n3,caf\xe9\n")
    assert scored(tmp_path / "in.csv", tmp_path / "out.jsonl").rows == 2
    assert [row["text"] for row in json_lines(tmp_path / "out.jsonl")] == ["one", "café"]
    (line,) = json_lines(tmp_path / "run" / "rejects.jsonl")
    assert line["text"] == "2,two,three\n"
    assert line["reason"] == "3 fields, and the header names 2"


def test_only_unfinished_shards_are_scored_again(tmp_path: Path) -> None:
    """Five shards; the third one's model fails. The second call finds two done, and the output is that of one call."""
    texts = [f"text {n}" for n in range(10)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    opened, run, scorer = open_corpus(str(tmp_path / "in.parquet"), "text"), Storage(tmp_path / "run"), LengthScorer()
    facts = {"input": [["in.parquet", "1"]], "model": {}}

    class Failing(LengthScorer):
        def score(self, texts: Sequence[str]) -> Scores:
            if "text 4" in texts:
                raise ValueError("killed")
            return super().score(texts)

    plan = corpus.stage(opened, run, scorer.labels, 2, facts)
    assert [corpus.finish_shard(run, plan, ScoreColumns(Failing(), "text"), number) for number in (0, 1)] == [2, 2]
    with pytest.raises(ValueError, match="killed"):
        corpus.finish_shard(run, plan, ScoreColumns(Failing(), "text"), 2)
    again = corpus.stage(opened, run, scorer.labels, 2, facts)
    assert again == plan
    assert corpus.unfinished(run, again) == [2, 3, 4]
    for number in reversed(corpus.unfinished(run, again)):  # the order in which shards are done does not matter
        corpus.finish_shard(run, again, ScoreColumns(scorer, "text"), number)
    assert sorted(scorer.texts) == texts[4:]
    corpus.assemble(run, again, str(tmp_path / "out.parquet"), lambda _: None)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == texts
    for what in ("input", "model"):
        with pytest.raises(ValueError, match=f"the {what} has changed since run .* choose another --run.name"):
            corpus.stage(opened, run, scorer.labels, 2, facts | {what: "another"})


def test_staging_that_was_killed_starts_over(tmp_path: Path) -> None:
    """Without plan.json the shards are of nobody knows what."""
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "in.parquet")
    (tmp_path / "run" / "shards").mkdir(parents=True)
    (tmp_path / "run" / "shards" / "000007.done.parquet").write_text("rubbish")
    scored(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "run" / "shards" / "000007.done.parquet").exists()


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c", "d"]}), tmp_path / "in.parquet")
    run, scorer = Storage(tmp_path / "run"), LengthScorer()
    plan = corpus.stage(open_corpus(str(tmp_path / "in.parquet"), "text"), run, scorer.labels, 2, {})
    corpus.finish_shard(run, plan, ScoreColumns(scorer, "text"), 0)
    for ending in ("parquet", "csv", "jsonl"):
        with pytest.raises(FileNotFoundError):  # the second shard is not there
            corpus.assemble(run, plan, str(tmp_path / f"out.{ending}"), lambda _: None)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl.gz"])
def test_a_remote_output_appears_whole_or_not_at_all(
    bucket: str, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second shard is not there at first. When it is, the size is known before the output takes its name, so that
    a process killed in between finds no output, or its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pq.write_table(pa.table({"text": ["a", "b", "c", "d"]}), tmp_path / "in.parquet")
    run, scorer, folder = Storage(tmp_path / "run"), LengthScorer(), Storage(bucket.format(tmp_path.name))
    plan = corpus.stage(open_corpus(str(tmp_path / "in.parquet"), "text"), run, scorer.labels, 2, {})
    corpus.finish_shard(run, plan, ScoreColumns(scorer, "text"), 0)
    output, there, sizes = bucket.format(f"{tmp_path.name}/out.{ending}"), [], []
    check_output(output)
    with pytest.raises(FileNotFoundError):
        corpus.assemble(run, plan, output, lambda _: None)
    assert folder.names() == []
    corpus.finish_shard(run, plan, ScoreColumns(scorer, "text"), 1)

    def before_move(size: int) -> None:
        there.extend(folder.names())
        sizes.append(size)

    assert corpus.assemble(run, plan, output, before_move).rows == 4
    assert (there, folder.names()) == ([], [f"out.{ending}"])
    written = Storage(output)
    assert sizes == [written.filesystem.get_file_info(written.path).size]
    with written.filesystem.open_input_stream(written.path) as stream:
        assert b"text" in stream.read()
    assert not list(tmp_path.glob("detox-output-*"))


def test_names_of_score_columns() -> None:
    assert free_names(["toxic", "insult"], ["text", "id"], "score") == {"toxic": "toxic", "insult": "insult"}
    assert free_names(["toxic", "insult"], ["text", "toxic"], "score") == {"toxic": "score_toxic", "insult": "insult"}
    assert free_names(["a"], ["a", "score_a"], "score") == {"a": "score_score_a"}
    assert free_names(["a", "score_a"], ["a"], "score") == {"a": "score_a", "score_a": "score_score_a"}


def test_shards_of_a_plan() -> None:
    plan = Plan({}, {}, shard_rows=4, rows=9, refused=0)
    assert [plan.rows_of(shard) for shard in range(plan.shards)] == [4, 4, 1]


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 5))
@settings(deadline=None)
def test_resizing_keeps_rows_and_order(sizes: list[int], rows: int) -> None:
    numbers = list(range(sum(sizes)))
    cuts = np.split(np.array(numbers, np.int64), np.cumsum(sizes)[:-1]) if sizes else []
    parts = list(resized((pa.table({"n": cut}) for cut in cuts), rows))
    assert [value for part in parts for value in part["n"].to_pylist()] == numbers
    assert all(len(part) == rows for part in parts[:-1])


def test_bad_input_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"], "id": [1], "raw": [b"a"]}), tmp_path / "a.parquet")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("id,text\n")
    (tmp_path / "a.xlsx").write_text("")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"text\n" + b"abc\n" * 999)[:-9])
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "mix-1.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "mix-2.parquet")
    for name, column, said in (
        ("", "text", "no input is given"),
        ("s3://bucket/a.csv", "text", "is a URI, and input is read from files"),
        ("gone-*.csv", "text", "no file matches"),
        ("a.xlsx", "text", "unknown ending"),
        ("a.parquet", "text", r"has no column 'text'; it has 'body', 'id', 'raw': name one with --text-column"),
        ("a.parquet", "id", "column 'id' of .* holds int64, not text"),
        ("a.parquet", "raw", "holds binary, not text"),
        ("empty.csv", "text", "holds no rows"),
        ("header.csv", "text", "holds no rows"),
        ("cut.csv.gz", "text", "is broken or cut off"),
        ("mix-*.parquet", "text", "column 'n' is string in .*mix-2.parquet and int64 in a file before"),
    ):
        pattern = name if not name or "://" in name else str(tmp_path / name)
        with pytest.raises(ValueError, match=said):
            open_corpus(pattern, column)
    (tmp_path / "mix-3.csv").write_text("text\na\n")
    with pytest.raises(ValueError, match=r"several formats \(.csv, .parquet\): take each format apart"):
        open_corpus(str(tmp_path / "mix-*"), "text")


def test_bad_output_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    for output, said in (
        ("", "no output is given"),
        (str(tmp_path / "out.xlsx"), "unknown ending"),
        (str(tmp_path / "out.parquet.gz"), "parquet compresses itself, so leave out .gz"),
        (str(tmp_path / "folder.csv"), "is a folder: name a file in it"),
        (str(tmp_path / "file" / "out.csv"), "cannot be written"),
    ):
        with pytest.raises(ValueError, match=said):
            check_output(output)
    check_output(str(tmp_path / "new" / "out.csv"))
    assert not list((tmp_path / "new").iterdir())


def test_a_model_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "config.json").write_text("{}")
    (tmp_path / "terms.txt").write_text("idiot")
    assert corpus.model_digests("unitary/toxic-bert") == corpus.model_digests("tiny/bert") == {}
    assert list(corpus.model_digests(str(tmp_path))) == ["config.json"]
    before = corpus.model_digests(f"lexicon:{tmp_path / 'terms.txt'}")
    (tmp_path / "terms.txt").write_text("stupid")
    assert corpus.model_digests(f"lexicon:{tmp_path / 'terms.txt'}") != before


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl.gz"])
def test_run_and_output_on_an_object_store(tmp_path: Path, ending: str) -> None:
    pq.write_table(pa.table({"text": ["idiot", "b", "c"]}), tmp_path / "in.parquet")
    opened, scorer, sizes = open_corpus(str(tmp_path / "in.parquet"), "text"), LengthScorer(), []
    run, output = Storage(f"memory://store-{ending}/run"), f"memory://store-{ending}/out.{ending}"
    check_output(output)
    plan = corpus.stage(opened, run, scorer.labels, 2, {})
    for number in corpus.unfinished(run, plan):
        corpus.finish_shard(run, plan, ScoreColumns(scorer, "text"), number)
    assert corpus.assemble(run, plan, output, sizes.append) == Written(3, 0)
    store = Storage(f"memory://store-{ending}")
    assert store.names() == [f"out.{ending}", "run"]
    pa.fs.copy_files(
        f"{store.path}/out.{ending}", str(tmp_path / f"out.{ending}"), store.filesystem, pa.fs.LocalFileSystem()
    )
    assert sizes == [(tmp_path / f"out.{ending}").stat().st_size]
    tables = list(open_corpus(str(tmp_path / f"out.{ending}"), "text").tables(lambda *_: pytest.fail("refused")))
    assert pa.concat_tables(tables)["text"].to_pylist() == ["idiot", "b", "c"]

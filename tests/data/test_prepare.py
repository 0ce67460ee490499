"""From sources to a prepared folder: every row accounted for, the same bytes in any order of work, bad input said."""

from __future__ import annotations

import csv
import errno
import json
import os
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.data.prepare import decide, fingerprint, prepare
from detox.data.prepared import PARTS, PreparedData
from detox.data.reading import read
from detox.data.settings import CleaningSettings, DataSettings, SplitSettings
from detox.data.shards import CleanedShard, Shard, Staged
from detox.governance.manifest import file_digests

TOPICS = ("bridge", "violin", "harbour", "orchard", "glacier", "lantern", "museum", "saddle", "walnut", "pebble")


def sentence(number: int) -> str:
    """A sentence that resembles none of another number: three topics of its own order, and the number in words."""
    spelled = " ".join(TOPICS[int(digit)] for digit in f"{number:04d}")
    return f"{spelled} {'is what you call it, idiot' if number % 4 == 0 else 'was a good edit'} {number * 7919}"


def write_csv(path: Path, rows: Iterable[Sequence[Any]], header: Sequence[str] = ("text", "toxic")) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def comments(tmp_path: Path) -> str:
    """120 comments, 30 of them toxic; then a repeat of the first, a near repeat of the second, an empty row, a label
    out of range and an e-mail address: rows 120 to 124."""
    rows: list[Sequence[Any]] = [(sentence(number), int(number % 4 == 0)) for number in range(120)]
    rows += [
        (sentence(0).upper() + "!", 1),
        (sentence(1) + "s", 0),
        ("   ", 0),
        ("out of range", 7),
        ("write to someone@example.org about the walnut saddle", 0),
    ]
    return write_csv(tmp_path / "comments.csv", rows)


def settings_of(source: str, **more: Any) -> DataSettings:
    return DataSettings(source=(source,), label_columns=("toxic",), **more)


def rejects_of(data: PreparedData) -> dict[int, tuple[str, str]]:
    table = pq.read_table(data.folder / "rejects.parquet").to_pylist()
    return {row["row"]: (row["rule"], row["reason"]) for row in table}


def parts_of(data: PreparedData) -> dict[int, str]:
    return {int(row): part for part in PARTS for row in data.part(part).rows_N}


def test_every_row_is_in_one_part_or_refused_with_its_reason(comments: str, tmp_path: Path) -> None:
    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    assert rejects_of(data) == {
        120: ("exact_duplicate", "same text as row 0, but for case, white space and punctuation"),
        121: ("near_duplicate", "resembles row 1"),
        122: ("empty", "no text is left after cleaning"),
        123: ("label_invalid", "label toxic is '7', outside 0..1"),
    }
    assert sorted(parts_of(data)) == [*range(120), 124]
    assert data.facts["rows_read"] == 125
    assert data.facts["refused"] == {"exact_duplicate": 1, "near_duplicate": 1, "empty": 1, "label_invalid": 1}
    assert data.facts["rules"]["pii_email"] == 1


def test_parts_have_their_shares_and_their_toxic_rows(comments: str, tmp_path: Path) -> None:
    """121 rows 60/20/20 with 30 toxic ones: within one row of 72.6, 24.2, 24.2 and of 18, 6, 6."""
    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        labels_NL = data.part(part).labels_NL
        assert abs(len(labels_NL) - 121 * share) <= 1.01
        assert abs(labels_NL.sum() - 30 * share) <= 1.01


def test_texts_are_cleaned_and_belong_to_their_rows(comments: str, tmp_path: Path) -> None:
    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    found = {
        int(row): (text, float(label))
        for part in map(data.part, PARTS)
        for row, text, label in zip(part.rows_N, part.texts, part.labels_NL[:, 0], strict=True)
    }
    assert found.pop(124) == ("write to [EMAIL] about the walnut saddle", 0)
    assert found == {number: (sentence(number), float(number % 4 == 0)) for number in range(120)}


def backwards(function: Callable[[Shard], CleanedShard], shards: Sequence[Shard]) -> list[CleanedShard]:
    """The shards worked off from the last to the first, as other workers might, and given back in order."""
    return [function(shard) for shard in reversed(shards)][::-1]


def test_the_same_bytes_in_any_order_of_work(comments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detox.data.reading.BATCH_ROWS", 16)  # several shards
    first = prepare(settings_of(comments), tmp_path / "a", seed=1)
    second = prepare(settings_of(comments), tmp_path / "b" / "deep", seed=1, map_shards=backwards)
    assert file_digests(first.folder) == file_digests(second.folder)
    assert first.digest == second.digest
    assert prepare(settings_of(comments), tmp_path / "c", seed=2).digest != first.digest


def test_the_size_of_shards_does_not_change_what_is_in_the_parts(
    comments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(settings_of(comments), tmp_path / "a", seed=1)
    monkeypatch.setattr("detox.data.reading.BATCH_ROWS", 7)
    cut = prepare(settings_of(comments), tmp_path / "b", seed=1)
    assert parts_of(whole) == parts_of(cut)
    assert rejects_of(whole) == rejects_of(cut)


def test_near_duplicates_that_are_kept_stay_on_one_side(tmp_path: Path) -> None:
    """40 sentences, each with two near repeats: 120 rows of which every three must share a part."""
    rows = [(sentence(number) + ending, number % 2) for ending in ("", "s", "!?") for number in range(40)]
    source = write_csv(tmp_path / "near.csv", rows)
    cleaning = CleaningSettings(exact_duplicates=False, near_duplicates=False)
    data = prepare(settings_of(source, cleaning=cleaning), tmp_path / "out", seed=1)
    parts = parts_of(data)
    assert len(parts) == 120
    assert all(parts[number] == parts[number + 40] == parts[number + 80] for number in range(40))


def test_a_named_split_is_kept_and_missing_labels_stay_missing(tmp_path: Path) -> None:
    names = ["train"] * 40 + ["dev"] * 10 + ["test"] * 10
    rows = [(sentence(n), "" if n % 3 == 0 else 0.25 * (n % 5), name) for n, name in enumerate(names)]
    source = write_csv(tmp_path / "named.csv", rows, ("text", "toxic", "part"))
    data = prepare(settings_of(source, split_column="part"), tmp_path / "out", seed=1)
    assert [parts_of(data)[n] for n in (0, 39, 40, 49, 50, 59)] == [
        *("train", "train"),
        *("validation", "validation"),
        *("test", "test"),
    ]
    train = data.part("train")
    assert np.isnan(train.labels_NL[train.rows_N % 3 == 0]).all()
    assert train.labels_NL[train.rows_N == 4].item() == 1.0
    assert data.facts["rows"] == {"train": 40, "validation": 10, "test": 10}


def test_a_part_of_ratio_zero_is_an_empty_file(comments: str, tmp_path: Path) -> None:
    split = SplitSettings(ratios=(0.8, 0.2, 0.0))
    data = prepare(settings_of(comments, split=split), tmp_path / "out", seed=1)
    assert data.facts["rows"]["test"] == 0
    assert data.part("test").texts == []


def test_text_without_labels_is_prepared_too(comments: str, tmp_path: Path) -> None:
    data = prepare(DataSettings(source=(comments,)), tmp_path / "out", seed=1)
    assert data.labels == ()
    assert sum(data.facts["rows"].values()) == 122  # the row whose label was out of range has none to check


def test_comments_dialogues_and_files_are_prepared_as_texts_together(tmp_path: Path) -> None:
    """What a language model is trained on: sources with other labels, or none, beside each other; cleaning joins the
    lines of a dialogue, and a dialogue that another source has too is refused."""
    dialogues = [f"Ann: {sentence(n)}\nBob: why?" for n in range(12)]
    write_csv(tmp_path / "train.csv", [(text,) for text in dialogues], header=("dialogue",))
    (tmp_path / "dialogsum.dev.jsonl").write_text(json.dumps({"dialogue": dialogues[3]}) + "\n", encoding="utf-8")
    chat = [(sentence(n), "O") for n in range(100, 112)]
    write_csv(tmp_path / "CONDA_train.csv", chat, header=("utterance", "intentClass"))
    plain = write_csv(tmp_path / "mine.csv", [(sentence(n),) for n in range(200, 212)], header=("text",))
    sources = ("samsum", "dialogsum", "conda", plain)
    data = prepare(DataSettings(source=sources, local=str(tmp_path)), tmp_path / "out", seed=1)
    assert rejects_of(data) == {
        12: ("exact_duplicate", "same text as row 3, but for case, white space and punctuation")
    }
    texts = [text for part in PARTS for text in data.part(part).texts]
    assert len(texts) == 36
    assert f"Ann: {sentence(3)} Bob: why?" in texts


def test_a_prepared_folder_is_a_source_and_keeps_its_parts(comments: str, tmp_path: Path) -> None:
    first = prepare(settings_of(comments), tmp_path / "first", seed=1)
    again = prepare(DataSettings(source=(str(first.folder),)), tmp_path / "again", seed=99)
    assert again.labels == ("toxic",)
    for part in PARTS:
        assert again.part(part).texts == first.part(part).texts


def test_load_dataset_finds_the_parts_and_not_the_rejects(comments: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    loaded = load_dataset(str(data.folder), cache_dir=str(tmp_path / "cache"))
    assert {part: loaded[part].num_rows for part in loaded} == data.facts["rows"]


def test_a_changed_file_is_noticed(comments: str, tmp_path: Path) -> None:
    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    (data.folder / "test.parquet").write_bytes((data.folder / "train.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"test\.parquet was changed after it was prepared"):
        PreparedData.open(data.folder)


def test_no_paths_are_written(comments: str, tmp_path: Path) -> None:
    data = prepare(settings_of(comments), tmp_path / "out", seed=1)
    for name in ("dataset.json", "README.md", "statistics.json"):
        assert str(tmp_path) not in (data.folder / name).read_text(encoding="utf-8")


def test_mixed_encodings_are_repaired_or_refused_row_by_row(tmp_path: Path) -> None:
    """Row 0 is cp1252 (0xE9), row 1 has 0x81, which neither UTF-8 nor cp1252 has; mojibake in row 2 is mended."""
    lines = [b"text,toxic", b"caf\xe9 society,0", b"broken \x81 byte,0", "naïve edit,1".encode()]
    lines += [f"{sentence(number)},{number % 2}".replace(", ", " ").encode() for number in range(20)]
    source = tmp_path / "mixed.csv"
    source.write_bytes(b"\n".join(lines) + b"\n")
    data = prepare(settings_of(str(source)), tmp_path / "out", seed=1)
    assert rejects_of(data) == {1: ("undecodable_bytes", "neither UTF-8 nor cp1252 at character 7")}
    texts = {text for part in PARTS for text in data.part(part).texts}
    assert {"café society", "naïve edit"} <= texts
    assert data.facts["rules"]["encoding_repaired"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": ()}, "no data source is given.*--data.source"),
        ({"text_column": "comment"}, "has no column 'comment'.*it has 'text', 'toxic'"),
        ({"label_columns": ("insult",)}, "has no column 'insult'"),
        ({"source": ("{tmp}/broken.parquet",)}, "broken.parquet cannot be read.*fetch it again"),
        ({"source": ("{tmp}/headless.csv",)}, "headless.csv holds no rows"),
        ({"cleaning": CleaningSettings(languages=("xx",))}, "xx"),
        (
            {"cleaning": CleaningSettings(min_chars=9000)},
            "none of the 125 rows is left.*too_short 123.*--data.cleaning",
        ),
        ({"split": SplitSettings(stratify_on=("insult",))}, "stratify_on names 'insult'"),
        ({"limit": 2}, "part"),
        ({"source": ("{tmp}/gone.csv",)}, "no file matches .*gone.csv"),
    ],
)
def test_bad_input_stops_with_a_sentence_and_leaves_nothing(
    changes: dict[str, Any], said: str, comments: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not a parquet file PAR1")
    write_csv(tmp_path / "headless.csv", [])
    if "source" in changes:
        changes = changes | {"source": tuple(name.format(tmp=tmp_path) for name in changes["source"])}
    settings = DataSettings(**({"source": (comments,), "label_columns": ("toxic",)} | changes))
    with pytest.raises(ValueError, match=said):
        prepare(settings, tmp_path / "results" / "out", seed=1)
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())


def test_a_folder_that_holds_something_is_left_alone(comments: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="out holds something already"):
        prepare(settings_of(comments), tmp_path / "out", seed=1)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(comments: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert prepare(settings_of(comments), tmp_path / "out", seed=1).folder == tmp_path / "out"


def test_a_full_disk_is_said_and_leaves_nothing(comments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow raises `OSError` with the system's number, seen on a file system of 1 MB."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file")

    monkeypatch.setattr("detox.data.parts.PartsWriter.write", full)
    with pytest.raises(OSError, match="cannot write to .*out: the disk is full: free some space") as caught:
        prepare(settings_of(comments), tmp_path / "results" / "out", seed=1)
    assert caught.value.errno == errno.ENOSPC
    assert not list((tmp_path / "results").iterdir())


class BreaksOff:
    """A streamed data set whose connection breaks after its first rows."""

    column_names = ("chosen", "rejected")

    def select_columns(self, _: list[str]) -> BreaksOff:
        return self

    with_format = select_columns

    def iter(self, batch_size: int) -> Iterable[pa.Table]:
        yield pa.table(dict.fromkeys(self.column_names, ["\n\nHuman: Hi\n\nAssistant: Hello"] * batch_size))
        raise ConnectionError("the connection was reset")


def test_a_hub_that_breaks_off_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network raises while rows are written is an `OSError` too."""
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {"train": BreaksOff()})
    with pytest.raises(
        ValueError, match=r"'hh_rlhf' could not be read to its end .*connection was reset.*network.*--data\.local"
    ):
        prepare(DataSettings(source=("hh_rlhf",), limit=3000), tmp_path / "results" / "out", seed=1)
    assert not list((tmp_path / "results").iterdir())


def test_what_a_killed_process_left_is_deleted_and_a_living_ones_is_not(comments: str, tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    dead, alive = (f".preparing-out-{socket.gethostname()}-{pid}-x7_ab" for pid in (killed.pid, os.getppid()))
    for name in (dead, alive):
        (tmp_path / name / "staging").mkdir(parents=True)
    prepare(settings_of(comments), tmp_path / "out", seed=1)
    assert [path.name for path in tmp_path.glob(".preparing-*")] == [alive]


def test_repeats_are_kept_as_a_few_bytes_each(tmp_path: Path) -> None:
    """20,000 rows of which 100 differ: 4 bytes of label, 8 of the earlier row, 1 each of rule and part are 14 a row."""
    keys_NK = np.arange(20_000, dtype=np.uint64)[:, None] % 100 + np.array([1, 1000], np.uint64)
    rows_N, labels_NL = np.arange(20_000), np.zeros((20_000, 1), np.float32)
    shard = CleanedShard(Shard(str(tmp_path)), rows_N, keys_NK, labels_NL, np.full(20_000, "", object), {})
    settings = settings_of(write_csv(tmp_path / "any.csv", [("any", 0)]))
    corpus = decide([shard], Staged([], 20_000, 0), read(settings), settings, seed=1)
    assert corpus.refused == {"exact_duplicate": 19_900}
    assert corpus.earlier_N[[0, 100, 19_999]].tolist() == [-1, 0, 99]
    assert len(pickle.dumps(corpus)) < 15 * 20_000


def test_a_file_in_place_of_a_folder_is_said(comments: str, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(OSError, match="cannot write to .*out: .*is a file: name another folder"):
        prepare(settings_of(comments), tmp_path / "results" / "out", seed=1)


def test_the_fingerprint_is_of_contents_not_of_places(comments: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / "comments.csv"
    copy.write_bytes(Path(comments).read_bytes())
    original = fingerprint(settings_of(comments))
    assert fingerprint(settings_of(str(copy))) == original
    json.dumps(original)
    copy.write_bytes(copy.read_bytes() + b"one more,0\n")
    assert fingerprint(settings_of(str(copy))) != original
    assert fingerprint(settings_of(comments, cleaning=CleaningSettings(pii=False))) != original
    assert fingerprint(DataSettings(source=("synthetic",), limit=50)) == fingerprint(
        DataSettings(source=("synthetic",), limit=50)
    )


def test_the_fingerprint_has_the_labels_that_lie_beside_a_part(tmp_path: Path) -> None:
    """Jigsaw's test part takes its labels from test_labels.csv: another one of those is another data set."""
    six = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
    write_csv(tmp_path / "test.csv", [("a", "hello there")], ("id", "comment_text"))
    write_csv(tmp_path / "test_labels.csv", [("a", *[0] * 6)], ("id", *six))
    settings = DataSettings(source=("jigsaw2018",), local=str(tmp_path))
    before = fingerprint(settings)
    write_csv(tmp_path / "test_labels.csv", [("a", *[1] * 6)], ("id", *six))
    assert fingerprint(settings) != before


@pytest.mark.data
def test_real_comments(data_folder: Path, tmp_path: Path) -> None:
    source = str(data_folder / "civil_spans16k_multilabel_derived.parquet")
    labels = ("frac_insult", "frac_obscene", "frac_identity_attack", "frac_threat")
    settings = DataSettings(source=(source,), label_columns=labels, limit=4000)
    data = prepare(settings, tmp_path / "out", seed=1)
    figures = json.loads((data.folder / "statistics.json").read_text())
    assert sum(data.facts["rows"].values()) + data.facts["rows_refused"] == 4000
    for label in labels:
        shares = [figures["labels"][label][part]["share"] for part in PARTS]
        assert max(shares) - min(shares) < 0.01
        assert min(shares) > 0

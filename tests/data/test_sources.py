"""Every source on a small copy with the columns of its releases, from a folder and from the stub hub."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.data.reading import read
from detox.data.settings import DataSettings
from detox.data.sources import SOURCES, source_named
from detox.data.sources.toxic_commons import AXES
from tests.hub import HEAD_COMMIT, ROOT, StubHub, run_python
from tests.hub_contents import (
    CIVIL_LABELS,
    JIGSAW_LABELS,
    hh_dialogues,
    real_toxicity_prompt,
    write_csv,
    write_datasets,
    write_lines,
)


def read_local(name: str, folder: Path, **settings: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    reader = read(DataSettings(source=(name,), local=str(folder), **settings))
    batches = list(reader)
    return (
        [row for batch in batches for row in batch.rows.to_pylist()],
        [row for batch in batches for row in batch.rejects.to_pylist()],
    )


def values(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def jigsaw_folder(folder: Path) -> Path:
    """Comments with newlines and quotes, as in the original; the labels of test in another order than its comments."""
    zeros = dict.fromkeys(JIGSAW_LABELS, 0)
    write_csv(
        folder / "train.csv",
        [
            {"id": "a1", "comment_text": 'Explanation\nWhy "so"?', **zeros},
            {"id": "a2", "comment_text": "You idiot", **zeros, "toxic": 1, "insult": 1},
        ],
    )
    write_csv(folder / "test.csv", [{"id": "b1", "comment_text": "scored"}, {"id": "b2", "comment_text": "not scored"}])
    write_csv(
        folder / "test_labels.csv",
        [{"id": "b2", **dict.fromkeys(JIGSAW_LABELS, -1)}, {"id": "b1", **zeros, "toxic": 1}],
    )
    return folder


def test_jigsaw_joins_test_with_its_labels_and_minus_one_is_missing(tmp_path: Path) -> None:
    rows, rejects = read_local("jigsaw2018", jigsaw_folder(tmp_path))
    assert not rejects
    assert values(rows, "text", "split", "toxic", "insult") == [
        ('Explanation\nWhy "so"?', "train", 0.0, 0.0),
        ("You idiot", "train", 1.0, 1.0),
        ("scored", "test", 1.0, 0.0),
        ("not scored", "test", None, None),
    ]


def test_jigsaw_reads_compressed_copies_and_a_choice_of_labels(tmp_path: Path) -> None:
    for path in list(jigsaw_folder(tmp_path).glob("*.csv")):
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    rows, _ = read_local("jigsaw2018", tmp_path, label_columns=("insult", "toxic"))
    assert list(rows[0]) == ["row", "source", "text", "split", "insult", "toxic"]
    assert len(rows) == 4


def test_jigsaw_test_without_its_labels_stops(tmp_path: Path) -> None:
    (jigsaw_folder(tmp_path) / "test_labels.csv").unlink()
    with pytest.raises(
        ValueError, match=r"test\.csv has its labels in test_labels\.csv, which is not beside it.*Kaggle"
    ):
        read(DataSettings(source=("jigsaw2018",), local=str(tmp_path)))


@pytest.mark.parametrize(("name", "columns"), [("test.csv", "comment_text"), ("test_labels.csv", "toxic, insult")])
def test_jigsaw_without_the_column_that_joins_stops(name: str, columns: str, tmp_path: Path) -> None:
    header = columns.split(", ")
    write_csv(jigsaw_folder(tmp_path) / name, [dict.fromkeys(header, 0)])
    there = ", ".join(map(repr, header))
    with pytest.raises(
        ValueError, match=rf"{name} has no column 'id'; it has {there}: comments find their labels by it; .*Kaggle"
    ):
        read(DataSettings(source=("jigsaw2018",), local=str(tmp_path)))


def test_jigsaw_bad_label_lines_of_test_are_not_lost(tmp_path: Path) -> None:
    with (jigsaw_folder(tmp_path) / "test_labels.csv").open("a", encoding="utf-8") as file:
        file.write("b3,1\n")
    rows, rejects = read_local("jigsaw2018", tmp_path)
    assert len(rows) == 4
    assert values(rejects, "row", "rule", "text") == [(2, "malformed_row", "b3,1\n")]


def test_civil_comments_of_kaggle_calls_toxicity_target(tmp_path: Path) -> None:
    fractions = dict.fromkeys(CIVIL_LABELS[1:], 0.0)
    train = {"id": 1, "target": 0.6, "comment_text": "You idiot", **fractions, "insult": 0.4}
    write_csv(tmp_path / "train.csv", [train])
    write_csv(tmp_path / "test_public_expanded.csv", [{"id": 2, "comment_text": "Hi", "toxicity": 0.1, **fractions}])
    write_csv(tmp_path / "test.csv", [{"id": 2, "comment_text": "Hi"}])
    rows, _ = read_local("civil_comments", tmp_path)
    assert values(rows, "text", "split", "toxicity", "insult") == [
        ("You idiot", "train", pytest.approx(0.6), pytest.approx(0.4)),
        ("Hi", "test", pytest.approx(0.1), 0.0),
    ]


def test_toxic_commons_scales_its_axes_and_sums_them(tmp_path: Path) -> None:
    """Sums 7, 0 and 15: over 14 that is 0.5 (the authors' border of toxic), 0 and, cut off, 1."""
    answers = [
        "[3, 2, 1, 1, 0]",
        "[0, 0, 0, 0, 0]",
        "[3, 3, 3, 3, 3]",
        "I cannot rate this.",
        "[4, 0, 0, 0, 0]",
        "[1, 2]",
    ]
    rows = [{"": n, "original_text": f"t{n}", "annotation": "…", "scores": raw} for n, raw in enumerate(answers)]
    write_csv(tmp_path / "annotated_Dutch-PD.csv", rows)
    rows, rejects = read_local("toxic_commons", tmp_path)
    third = pytest.approx(1 / 3)
    assert values(rows, "toxicity", *AXES) == [
        (0.5, 1.0, pytest.approx(2 / 3), third, third, 0.0),
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    ]
    assert values(rejects, "text", "rule") == [
        ("t3", "label_invalid"),
        ("t4", "label_invalid"),
        ("t5", "label_invalid"),
    ]


def test_real_toxicity_prompts_gives_both_halves_with_their_scores(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(json.dumps(real_toxicity_prompt(1)) + "\n", encoding="utf-8")
    rows, _ = read_local("real_toxicity_prompts", tmp_path)
    assert values(rows, "row", "text", "toxicity", "flirtation", "split") == [
        (0, "He said 1", 0.25, 0.25, None),
        (1, " you idiot number 1", 0.75, None, None),
    ]


def test_judge_pairs_give_both_sides_of_each_pair(tmp_path: Path) -> None:
    table = pa.table({"lang": ["en"], "toxic": ["shut up , idiot"], "neutral": ["Please be quiet"]})
    pq.write_table(table, tmp_path / "judge.parquet")
    rows, rejects = read_local("judge_pairs", tmp_path)
    assert values(rows, "text", "toxic") == [("shut up , idiot", 1.0), ("Please be quiet", 0.0)]
    assert not rejects


def test_davidson_gives_shares_of_readers(tmp_path: Path) -> None:
    """Three readers, one hate, one offensive, one neither: 1/3 each, 2/3 toxic. The file is the authors' own."""
    counts = {"count": 3, "hate_speech": 1, "offensive_language": 1, "neither": 1, "class": 0}
    write_csv(
        tmp_path / "labeled_data.csv", [{"": 0, **counts, "tweet": "RT idiot"}, {**counts, "": 1, "hate_speech": "x"}]
    )
    rows, rejects = read_local("davidson", tmp_path)
    third = pytest.approx(1 / 3)
    assert values(rows, "text", "toxic", "hate_speech", "offensive_language") == [
        ("RT idiot", pytest.approx(2 / 3), third, third)
    ]
    assert values(rejects, "rule") == [("label_invalid",)]


def test_conda_maps_intents_and_leaves_the_unlabelled_test_part_missing(tmp_path: Path) -> None:
    def utterance(text: str, **intent: str) -> dict[str, str]:
        return {"Id": "1", "matchId": "1", "conversationId": "1", "utterance": text, **intent}

    write_csv(tmp_path / "CONDA_train.csv", [utterance(kind, intentClass=kind) for kind in "EIAOX"])
    write_csv(tmp_path / "CONDA_valid.csv", [utterance("valid", intentClass="O")])
    write_csv(tmp_path / "CONDA_test.csv", [utterance("gg")])
    rows, rejects = read_local("conda", tmp_path)
    assert values(rows, "text", "split", "toxic", "explicit", "implicit") == [
        ("E", "train", 1.0, 1.0, 0.0),
        ("I", "train", 1.0, 0.0, 1.0),
        ("A", "train", 0.0, 0.0, 0.0),
        ("O", "train", 0.0, 0.0, 0.0),
        ("valid", "validation", 0.0, 0.0, 0.0),
        ("gg", "test", None, None, None),
    ]
    assert values(rejects, "text", "rule") == [("X", "label_invalid")]


def test_gosuai_is_text_without_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "dota2_chat_messages.csv", [{"match": 0, "time": 1.5, "slot": 9, "text": "gg wp"}])
    rows, _ = read_local("gosuai_dota2", tmp_path)
    assert rows == [{"row": 0, "source": "gosuai_dota2", "text": "gg wp", "split": None}]


def test_hh_rlhf_gives_the_two_last_turns(tmp_path: Path) -> None:
    (tmp_path / "harmless-base").mkdir()
    packed = gzip.compress((json.dumps(hh_dialogues(1)) + "\n").encode())
    for split in "train", "test":
        (tmp_path / "harmless-base" / f"{split}.jsonl.gz").write_bytes(packed)
    rows, _ = read_local("hh_rlhf", tmp_path)
    assert values(rows, "text", "split", "rejected") == [
        ("Not at all.", "train", 0.0),
        ("Yes, an idiot.", "train", 1.0),
        ("Not at all.", "test", 0.0),
        ("Yes, an idiot.", "test", 1.0),
    ]


def test_dialogues_are_read_whole_and_without_labels(tmp_path: Path) -> None:
    """Of the two dialogues of hh-rlhf the chosen one; no summary."""
    spoken = {"fname": "dev_0", "dialogue": "#Person1#: Hi.\n#Person2#: Bye.", "summary": "They meet.", "topic": "x"}
    write_lines(tmp_path / "dialogsum.dev.jsonl", [spoken])
    write_lines(tmp_path / "train.jsonl", [hh_dialogues(1)])
    rows, rejects = read_local("dialogsum", tmp_path)
    assert rows == [{"row": 0, "source": "dialogsum", "text": "#Person1#: Hi.\n#Person2#: Bye.", "split": None}]
    assert not rejects
    rows, _ = read_local("hh_dialogues", tmp_path)
    assert values(rows, "text") == [
        ("\n\nHuman: Hi\n\nAssistant: Hello 1\n\nHuman: Am I stupid?\n\nAssistant: Not at all.",)
    ]


def test_toxic_spans_says_where_a_span_was_found(tmp_path: Path) -> None:
    rows = [
        {"spans": "[4, 5, 6, 7, 8]", "text": "you idiot"},
        {"spans": "[]", "text": "hm"},
        {"spans": "?", "text": "x"},
    ]
    write_csv(tmp_path / "tsd_train.csv", rows)
    write_csv(tmp_path / "tsd_trial.csv", rows[:1])
    rows, rejects = read_local("toxic_spans", tmp_path)
    assert values(rows, "text", "split", "toxic", "span") == [
        ("you idiot", "train", 1.0, 1.0),
        ("hm", "train", 1.0, 0.0),
        ("you idiot", "validation", 1.0, 1.0),
    ]
    assert values(rejects, "text", "rule") == [("x", "label_invalid")]


def test_synthetic_rows_are_made_in_the_number_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(rows: int, seed: int) -> pa.Table:
        return pa.table(
            dict.fromkeys(JIGSAW_LABELS, [0.0] * rows)
            | {"text": [f"made {n} with {seed}" for n in range(rows)], "split": ["train"] * rows}
        )

    monkeypatch.setattr("detox.data.synthetic", SimpleNamespace(generate=generate), raising=False)
    (batch,) = read(DataSettings(source=("synthetic",), limit=3))
    assert batch.rows.column("text").to_pylist() == ["made 0 with 0", "made 1 with 0", "made 2 with 0"]
    assert sum(batch.rows.num_rows for batch in read(DataSettings(source=("synthetic",)))) == 6000


def test_several_sources_have_the_union_of_their_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "CONDA_train.csv", [{"utterance": "noob", "intentClass": "E"}])
    write_csv(tmp_path / "tsd_train.csv", [{"spans": "[]", "text": "hm"}])
    reader = read(DataSettings(source=("conda", "toxic_spans"), local=str(tmp_path)))
    assert reader.labels == ("toxic", "explicit", "implicit", "span")
    (batch,) = reader
    assert values(batch.rows.to_pylist(), "source", "toxic", "explicit", "span") == [
        ("conda", 1.0, 1.0, None),
        ("toxic_spans", 1.0, None, 0.0),
    ]


def test_a_local_copy_may_be_a_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", [{"text": "gg"}])
    rows, _ = read_local("gosuai_dota2", tmp_path / "mine.csv")
    assert values(rows, "text") == [("gg",)]


@pytest.mark.parametrize("name", ["jigsaw2018", "gosuai_dota2", "conda", "toxic_spans", "dialogsum"])
def test_a_source_that_no_hub_has_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"{name}.* is not on the hub\. To get it: .*(kaggle|git clone).*--data\.local"
    ):
        read(DataSettings(source=(name,)))
    with pytest.raises(ValueError, match=rf"holds nothing of source '{name}': looked for .*(kaggle|git clone)"):
        read(DataSettings(source=(name,), local=str(tmp_path)))


def test_a_local_copy_with_other_columns_says_which_are_missing(tmp_path: Path) -> None:
    write_csv(tmp_path / "labeled_data.csv", [{"tweet": "a", "hate_speech": 1, "offensive_language": 0}])
    with pytest.raises(
        ValueError, match=r"labeled_data\.csv has no column 'neither_count' or 'neither'; it has 'tweet'"
    ):
        read(DataSettings(source=("davidson",), local=str(tmp_path)))


UNPINNED = {"samsum"}
"""Resolved to a commit, which is recorded, when it is loaded."""


def test_every_source_states_its_facts() -> None:
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.title
        assert source.licence
        assert source.mapping
        assert source.obtain
        assert set(source.optional) <= set(source.columns)
        assert bool(source.local) != bool(source.generate)
        assert not source.hub or len(source.revision) == 40 or name in UNPINNED


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match="'civil_coments': did you mean 'civil_comments'.*jigsaw2018.*synthetic"):
        source_named("civil_coments")


def test_importing_the_sources_loads_no_heavy_library() -> None:
    code = (
        "import sys, detox.data.reading, detox.data.sources\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'huggingface_hub', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


READ_THROUGH_HUB = """
import json, sys
from detox.data.reading import read
from detox.data.settings import DataSettings
for name in sys.argv[2:]:
    reader = read(DataSettings(source=(name,), limit=int(sys.argv[1])))
    rows = [row for batch in reader for row in batch.rows.to_pylist()]
    print(json.dumps({"name": name, "revision": reader.origins[0].revision, "rows": rows}))
"""


def test_every_hub_source_loads_through_datasets(tmp_path: Path, serve_hub: Callable[..., StubHub]) -> None:
    """The splits of several are named; `train` alone is no split. A limit streams the same rows."""
    hub = serve_hub(datasets=write_datasets(tmp_path))
    names = [name for name, source in SOURCES.items() if source.hub]
    whole, streamed = (
        {read["name"]: read for read in map(json.loads, run_python(hub, READ_THROUGH_HUB, limit, *names).splitlines())}
        for limit in ("0", "3")
    )
    assert {name: (len(read["rows"]), read["rows"][0]["split"]) for name, read in whole.items()} == {
        "civil_comments": (6, "train"),
        "toxic_commons": (4, None),
        "real_toxicity_prompts": (4, None),
        "davidson": (2, None),
        "hh_rlhf": (8, "train"),
        "samsum": (6, "train"),
        "hh_dialogues": (4, "train"),
    }
    assert [row["religion"] for row in whole["toxic_commons"]["rows"]] == [0.0, 1.0, 0.0, 1.0]
    assert [row["offensive_language"] for row in whole["davidson"]["rows"]] == [0.0, 1.0]
    for name in names:
        assert whole[name]["revision"] == (HEAD_COMMIT if name in UNPINNED else SOURCES[name].revision)
        assert streamed[name]["rows"] == whole[name]["rows"][:3]


OFFLINE = """
import dataclasses
from detox.data import hub
from detox.data.sources import SOURCES
hub.load(dataclasses.replace(SOURCES["davidson"], revision="main"), streaming=False)
"""


def test_a_hub_out_of_reach_says_what_to_do(tmp_path: Path) -> None:
    """Port 9 answers nobody; the hub library's error for it is no `OSError`."""
    offline = StubHub(dict(os.environ) | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}, [])
    with pytest.raises(AssertionError, match=r"ValueError: source 'davidson' could not be loaded.*check the network"):
        run_python(offline, OFFLINE)


HUB_ERRORS = """
import dataclasses
from detox.data import hub
from detox.data.sources import SOURCES
print(hub.load(dataclasses.replace(SOURCES["davidson"], revision="main"), streaming=False)[0])
for name in "civil_comments", "hh_rlhf":
    try:
        hub.load(SOURCES[name], streaming=False)
    except ValueError as error:
        print(error)
"""


def test_a_branch_is_resolved_and_a_gone_or_gated_data_set_says_how_to_get_it(
    tmp_path: Path, serve_hub: Callable[..., StubHub]
) -> None:
    folders = write_datasets(tmp_path)
    del folders["google/civil_comments"]
    hub = serve_hub(datasets=folders, gated=["Anthropic/hh-rlhf"])
    commit, gone, gated = run_python(hub, HUB_ERRORS).strip().split("\n")
    assert commit == HEAD_COMMIT
    assert "'civil_comments' could not be loaded from the hub (google/civil_comments at f2970eb3" in gone
    assert "To get it: the hub has it without registration; or take the files of https://www.kaggle.com" in gone
    assert "gated" in gated.split("To get it")[0]
    assert "`hf auth login`" in gated


REAL_COPIES = {
    "davidson": 24_783,
    "conda": 44_869,
    "real_toxicity_prompts": 10_000,
    "toxic_spans": 8_629,
    "hh_rlhf": 4_624,
    "jigsaw2018": 282,
    "dialogsum": 500,
    "hh_dialogues": 2_312,
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL_COPIES)
def test_real_copies_are_read_whole(name: str, data_folder: Path) -> None:
    batches = list(read(DataSettings(source=(name,), local=str(data_folder))))
    assert sum(batch.rows.num_rows for batch in batches) == REAL_COPIES[name]
    assert sum(batch.rejects.num_rows for batch in batches) == 0


@pytest.mark.data
def test_a_real_file_keeps_its_texts_and_labels(data_folder: Path) -> None:
    path = data_folder / "jigsaw_train20k_binary.parquet"
    rows = pa.Table.from_batches([b.rows for b in read(DataSettings(source=(str(path),), label_columns=("toxic",)))])
    original = pq.read_table(path)
    assert rows["text"].to_pylist() == original["text"].to_pylist()
    assert rows["toxic"].to_pylist() == original["toxic"].to_pylist()

"""Examples from files and named sources: what becomes of each row, and that a prompt is in one part only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.data.examples.example import Example, PreparedExamples, Turn
from detox.data.examples.prepare import fingerprint, part_of, prepare_examples
from detox.data.examples.settings import ExampleSettings
from detox.data.prepare import prepare
from detox.data.settings import DataSettings, SplitSettings
from tests.hub_contents import write_lines


def prepared(folder: Path, **settings: object) -> PreparedExamples:
    folder.mkdir(parents=True)
    prepare_examples(ExampleSettings(**settings), folder, seed=1)  # type: ignore[arg-type]
    return PreparedExamples.open(folder)


def every(examples: PreparedExamples) -> list[Example]:
    return [example for name in ("train", "validation", "test") for example in examples.part(name)]


def rejects(examples: PreparedExamples) -> list[tuple[int, str]]:
    lines = (examples.folder / "rejects.jsonl").read_text().splitlines()
    return [(row["row"], row["rule"]) for row in map(json.loads, lines)]


def dialogue(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[at % 2]}: {text}" for at, text in enumerate(turns))


def test_hh_rlhf_is_a_dialogue_with_a_better_and_a_worse_answer(tmp_path: Path) -> None:
    rows = [
        {"chosen": dialogue("hi", "hello", "why?", "because"), "rejected": dialogue("hi", "hello", "why?", "go away")},
        {"chosen": dialogue("hi", "good"), "rejected": dialogue("ho", "bad")},
        {"chosen": dialogue("hi"), "rejected": dialogue("hi")},
        {"chosen": dialogue("hi", "same"), "rejected": dialogue("hi", "same")},
        {"chosen": None, "rejected": dialogue("hi", "bad")},
    ]
    write_lines(tmp_path / "train.jsonl", rows)
    found = prepared(tmp_path / "out", source=("hh_rlhf",), local=str(tmp_path))
    turns = (Turn("user", "hi"), Turn("assistant", "hello"), Turn("user", "why?"))
    assert every(found) == [Example(turns, "because", "go away")]
    assert rejects(found) == [
        (1, "missing_prompt"),
        (2, "missing_prompt"),
        (3, "same_response"),
        (4, "missing_prompt"),
    ]


def test_a_file_may_have_prompts_responses_or_texts_alone(tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": " b", "rejected": " c"}])
    write_lines(tmp_path / "prompts.jsonl", [{"prompt": "a", "chosen": None}, {"prompt": "", "chosen": "b"}])
    write_lines(tmp_path / "texts.jsonl", [{"text": "one\ntwo"}, {"text": " "}, {"text": "one\ntwo"}, {"text": 3}])
    pairs = prepared(tmp_path / "1", source=(str(tmp_path / "pairs.jsonl"),))
    assert every(pairs) == [Example("a", " b", " c")]
    prompts = prepared(tmp_path / "2", source=(str(tmp_path / "prompts.jsonl"),))
    assert (every(prompts), rejects(prompts)) == ([Example("a", "")], [(1, "missing_prompt")])
    texts = prepared(tmp_path / "3", source=(str(tmp_path / "texts.jsonl"),), chosen_column="text")
    assert every(texts) == [Example("", "one\ntwo")]
    assert rejects(texts) == [(1, "missing_response"), (2, "duplicate"), (3, "text_not_a_string")]


def test_prepared_comments_are_texts_in_the_parts_that_they_were_dealt_to(tmp_path: Path) -> None:
    words = ("bridge", "violin", "harbour", "orchard", "glacier", "lantern", "museum", "saddle")
    texts = [" ".join(words[int(digit)] for digit in f"{n * 12345:07o}") for n in range(40)]
    write_lines(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    settings = DataSettings(source=(str(tmp_path / "rows.jsonl"),), split=SplitSettings(ratios=(0.5, 0.25, 0.25)))
    prepare(settings, tmp_path / "prepared", seed=1)
    found = prepared(tmp_path / "out", source=(str(tmp_path / "prepared"),))
    for part in ("train", "validation", "test"):
        texts = pq.read_table(tmp_path / "prepared" / f"{part}.parquet")["text"].to_pylist()
        assert [one.chosen for one in found.part(part)] == texts
    assert {one.prompt for one in every(found)} == {""}


def test_summaries_and_continuations_have_prompts(tmp_path: Path) -> None:
    write_lines(tmp_path / "dialogsum.train.jsonl", [{"fname": "1", "dialogue": "A: hi", "summary": "A greets."}])
    halves = {"prompt": {"text": "He was"}, "continuation": {"text": " late"}}
    write_lines(tmp_path / "prompts.jsonl", [halves])
    found = every(prepared(tmp_path / "1", source=("dialogsum", "real_toxicity_prompts"), local=str(tmp_path)))
    summarise = "Summarize the following conversation.\n\nA: hi\n\nSummary: "
    assert sorted(found) == [Example("He was", " late"), Example(summarise, "A greets.")]


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_a_local_copy_of_one_part_is_dealt_to_all(part: str, tmp_path: Path) -> None:
    rows = [{"dialogue": f"A: hi {n}", "summary": f"A greets {n}."} for n in range(200)]
    write_lines(tmp_path / f"dialogsum.{part}.jsonl", rows)
    found = prepared(tmp_path / "1", source=("dialogsum",), local=str(tmp_path), ratios=(0.5, 0.25, 0.25))
    sizes = [len(found.part(name)) for name in ("train", "validation", "test")]
    assert sum(sizes) == 200
    assert sizes == pytest.approx([100, 50, 50], abs=25)


def test_a_prompt_is_in_one_part_and_the_source_s_test_part_stays() -> None:
    settings = ExampleSettings(ratios=(0.5, 0.25, 0.25))
    parts = {part_of(Example("same", str(n)), "", settings, seed=3) for n in range(50)}
    assert len(parts) == 1
    dealt = [part_of(Example(str(n), "x"), "", settings, seed=3) for n in range(4000)]
    shares = {name: dealt.count(name) / 4000 for name in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.5, "validation": 0.25, "test": 0.25}, abs=0.03)
    assert {part_of(Example(str(n), "x"), "train", settings, 3) for n in range(200)} == {"train", "validation"}


def test_no_prompt_of_a_part_that_is_kept_is_learnt(tmp_path: Path) -> None:
    """hh-rlhf has a test part; ten of its prompts have other answers in the training part."""
    for part, first, last in (("train", 0, 60), ("test", 50, 80)):
        answers = {side: f"{side} in {part}" for side in ("chosen", "rejected")}
        rows = [{side: dialogue(f"q{n}", text) for side, text in answers.items()} for n in range(first, last)]
        write_lines(tmp_path / f"{part}.jsonl", rows)
    found = prepared(tmp_path / "out", source=("hh_rlhf",), local=str(tmp_path))
    keys = {name: {one.key for one in found.part(name)} for name in ("train", "validation", "test")}
    assert len(keys["test"]) == 30
    assert not keys["test"] & (keys["train"] | keys["validation"])
    assert [rule for _, rule in rejects(found)] == ["kept_elsewhere"] * 10


def test_a_limit_takes_from_every_part(tmp_path: Path) -> None:
    for part in ("train", "validation", "test"):
        rows = [{"dialogue": f"A: {part} {n}", "summary": f"A says {part} {n}."} for n in range(200)]
        write_lines(tmp_path / f"{part}.jsonl", rows)
    local = {"train": "dialogsum.train.jsonl", "validation": "dialogsum.dev.jsonl", "test": "dialogsum.test.jsonl"}
    for part, name in local.items():
        (tmp_path / f"{part}.jsonl").rename(tmp_path / name)
    settings: dict[str, Any] = {"source": ("dialogsum",), "local": str(tmp_path), "ratios": (0.8, 0.1, 0.1)}
    found = prepared(tmp_path / "out", **settings, limit=100)
    assert [len(found.part(name)) for name in ("train", "validation", "test")] == [80, 10, 10]
    write_lines(tmp_path / "rows.jsonl", [{"prompt": f"q{n}", "chosen": f"a{n}"} for n in range(200)])
    assert len(every(prepared(tmp_path / "1", source=(str(tmp_path / "rows.jsonl"),), limit=100))) == 100


def test_what_determines_the_examples_is_in_their_fingerprint(tmp_path: Path) -> None:
    """The file's content and the settings, and not the folder that it lies in."""

    def print_of(name: str, rows: list[str], seed: int = 1, **settings: object) -> object:
        (tmp_path / name).mkdir(exist_ok=True)
        pq.write_table(pa.table({"chosen": rows}), tmp_path / name / "texts.parquet")
        path = str(tmp_path / name / "texts.parquet")
        return fingerprint(ExampleSettings(source=(path,), **settings), seed)  # type: ignore[arg-type]

    same = print_of("a", ["x"])
    assert same == print_of("b", ["x"])
    assert same != print_of("c", ["y"])
    assert same != print_of("a", ["x"], seed=2)
    assert same != print_of("a", ["x"], limit=5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [([{"prompt": "a", "answer": "b"}], "no column 'chosen'.*--data.chosen-column"), ([{"chosen": " "}], "no example")],
)
def test_what_is_wrong_as_a_whole_stops(rows: list[dict[str, str]], said: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ValueError, match=said):
        prepared(tmp_path / "out", source=(str(tmp_path / "rows.jsonl"),))


def test_no_source_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name one or several of hh_rlhf, real_toxicity_prompts, samsum, dialogsum"):
        prepared(tmp_path / "out")

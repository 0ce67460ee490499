"""Prompts: which are drawn, which are refused and why, from a source, a table and a text file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detox.evaluation.generation_settings import PromptSettings
from detox.evaluation.prompts import check_prompts, read_prompts, rejects_text
from tests.hub_contents import write_real_toxicity_prompts


def lines(path: Path, texts: list[object], column: str = "prompt") -> str:
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return str(path)


def test_a_draw_goes_by_seed_and_text_and_grows(tmp_path: Path) -> None:
    """The same prompts in another order, or among others, give the same draw; a larger one begins with the smaller."""
    texts: list[object] = [f"prompt {number}" for number in range(50)]
    source = lines(tmp_path / "a.jsonl", texts)
    turned = lines(tmp_path / "b.jsonl", texts[::-1])

    def drawn(file: str, count: int, seed: int = 1) -> list[str]:
        return [one.text for one in read_prompts(PromptSettings(source=file, count=count), seed).drawn]

    assert drawn(source, 10) == drawn(turned, 10) == drawn(source, 30)[:10]
    assert len(set(drawn(source, 10))) == 10
    assert drawn(source, 10) != drawn(source, 10, seed=2)
    assert sorted(drawn(source, 0)) == sorted(map(str, texts))
    assert sorted(drawn(source, 10)) != sorted(map(str, texts[:10]))


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", ["good", " \n", None, 7, "good", "better"])
    with open(source, "a") as file:
        file.write("{broken\n")
    found = read_prompts(PromptSettings(source=source), seed=1)
    assert sorted(found.drawn) == [(0, "good"), (5, "better")]
    rules = ["empty", "text_not_a_string", "text_not_a_string", "duplicate", "malformed_row"]
    assert [(one.row, one.rule) for one in found.refused] == list(zip([1, 2, 3, 4, 6], rules, strict=True))
    written = [json.loads(line) for line in rejects_text(found.refused[::-1]).splitlines()]
    assert [one["row"] for one in written] == [1, 2, 3, 4, 6]
    assert written[3] == {"row": 4, "prompt": "good", "rule": "duplicate", "reason": "the same as row 0"}
    assert written[4]["prompt"] == "{broken\n"


def test_real_toxicity_prompts_give_their_prompts_only(tmp_path: Path) -> None:
    write_real_toxicity_prompts(tmp_path, 5)
    settings = PromptSettings(local=str(tmp_path))
    check_prompts(settings)
    found = read_prompts(settings, seed=1)
    assert sorted(one.text for one in found.drawn) == [f"He said {number}" for number in range(5)]


def test_a_table_and_a_text_file_give_the_same(tmp_path: Path) -> None:
    texts = ["first", "zwölf, and more"]
    pq.write_table(pa.table({"said": texts}), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_bytes("first\r\n\nzwölf, and more".encode())
    table = read_prompts(PromptSettings(source=str(tmp_path / "a.parquet"), column="said"), seed=1)
    text = read_prompts(PromptSettings(source=str(tmp_path / "a.txt")), seed=1)
    assert table.digest == text.digest
    assert [one.rule for one in text.refused] == ["empty"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{tmp}/gone.txt", "no file matches"),
        ("{tmp}/gone.csv", "no file matches"),
        ("{tmp}/a.jsonl", "has no column 'prompt' .did you mean 'prompts'.*: name the column with --prompts.column"),
        ("real_toxicity_prompt", "did you mean 'real_toxicity_prompts'"),
    ],
)
def test_a_source_that_is_not_there(tmp_path: Path, source: str, said: str) -> None:
    lines(tmp_path / "a.jsonl", ["x"], column="prompts")
    with pytest.raises(ValueError, match=said):
        check_prompts(PromptSettings(source=source.replace("{tmp}", str(tmp_path))))


def test_nothing_to_continue_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no prompt that can be used: 2 rows were refused"):
        read_prompts(PromptSettings(source=lines(tmp_path / "a.jsonl", ["", " "])), seed=1)

"""The benchmark of our GRPO against TRL's own: both sides at a tiny size, what is refused, and what the lines say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import grpo_wrapper

WORDS = ("please", "see", "the", "talk", "page", "before", "you", "revert", "that", "edit", "because", "nobody")
SHORT = ["--model", "tiny", "--batch", "16", "--response", "8", "--steps", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run of each side, in this process."""
    folder = tmp_path_factory.mktemp("task")
    prompts = [f"{' '.join(WORDS[row % 7 : row % 7 + 4])} {row}" for row in range(60)]
    rows = {"prompt": prompts, "continuation": [f" {WORDS[row % 12]} {WORDS[row % 5]}" for row in range(60)]}
    pq.write_table(pa.table(rows), folder / "prompts.parquet")
    pq.write_table(pa.table({"term": list("abcdefghijklm")}), folder / "terms.parquet")
    files = ["--data", str(folder / "prompts.parquet"), "--lexicon", str(folder / "terms.parquet")]
    options = grpo_wrapper._parser().parse_args([*SHORT, *files])
    grpo_wrapper.write_task(folder, options)
    return {who: grpo_wrapper.measure(who, folder, options) for who in ("ours", "peer", "monitored")}


def test_all_sides_say_and_learn_the_same(sides: dict[str, dict[str, Any]]) -> None:
    """Three steps of sixteen responses each, some with a letter of the lexicon as a word and some without."""
    assert [len(generation) for generation in sides["peer"]["responses"]] == [16, 16, 16]
    assert {value for values in sides["peer"]["rewards"] for value in values} == {0.0, 1.0}
    losses, norms, *_ = zip(*sides["peer"]["steps"], strict=True)
    assert len(losses) == 3
    assert max(norms) > 0
    grpo_wrapper.check({who: [run] for who, run in sides.items()})
    for run in sides.values():
        assert min(run["wall"], run["cpu"]) > 0


def changed(sides: dict[str, dict[str, Any]], key: str, value: Any) -> dict[str, list[dict[str, Any]]]:
    """The runs, but for the first value of our last step."""
    runs = {who: [copy.deepcopy(run)] for who, run in sides.items()}
    place = runs["ours"][0][key][-1]
    place[0] = value(place[0])
    return runs


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("responses", lambda ids: [*ids[:-1], ids[-1] + 1], "generation 3: responses of ours are not"),
        ("rewards", lambda reward: 1 - reward, "generation 3: rewards of ours are not"),
        ("steps", lambda loss: loss + 0.002, "step 3: loss is"),
    ],
)
def test_sides_that_differ_are_not_compared(sides: dict[str, dict[str, Any]], key: str, value: Any, rule: str) -> None:
    with pytest.raises(SystemExit, match=rule):
        grpo_wrapper.check(changed(sides, key, value))


def test_rewards_that_teach_nothing_are_refused(sides: dict[str, dict[str, Any]]) -> None:
    alike = {who: [run | {"rewards": [[1.0] * 16] * 3}] for who, run in sides.items()}
    with pytest.raises(SystemExit, match="all rewards are alike"):
        grpo_wrapper.check(alike)


def test_lines_of_the_sides(
    sides: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Medians of two runs, each side's own seconds over the bare trainer's; the headline last."""
    seconds = {"ours": 5.0, "peer": 4.0, "monitored": 6.0}
    monkeypatch.setattr(grpo_wrapper, "write_task", lambda folder, options: None)
    monkeypatch.setattr(
        grpo_wrapper,
        "_in_process",
        lambda who, folder, options: sides[who] | {"wall": seconds[who], "cpu": 2 * seconds[who]},
    )
    grpo_wrapper.main([*SHORT, "--runs", "2"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["ratio"] for line in lines] == [1.5, 1.25, 1.25]
    assert (lines[-1]["metric"], lines[-1]["runs"], lines[-1]["better"]) == ("time over bare TRL", 2, "lower")

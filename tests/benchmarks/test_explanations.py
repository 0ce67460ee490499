"""The score of SemEval-2021 task 5, by hand, and the benchmark on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.explanations import Weighed, f1, main, marked


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        (set(), set(), 1.0),
        (set(), {1}, 0.0),
        ({1}, set(), 0.0),
        ({1, 2, 3}, {2, 3, 4, 5}, 4 / 7),  # 2 of 3 right, 2 of 4 found: 2 * 2 / (3 + 4)
        ({1, 2}, {1, 2}, 1.0),
    ],
)
def test_f1_over_characters(predicted: set[int], true: set[int], expected: float) -> None:
    assert f1(predicted, frozenset(true)) == pytest.approx(expected)


def test_marked_words_reach_a_share_of_the_heaviest() -> None:
    """Half of 0.8 is 0.4: the second word is in, the third out; a negative word is never in."""
    words = [Weighed(0, 2, 0.8), Weighed(3, 5, 0.4), Weighed(6, 8, 0.39), Weighed(9, 11, -1.0)]
    assert marked(words, 0.5) == {0, 1, 3, 4}
    assert marked([Weighed(0, 2, -1.0)], 0.5) == set()
    assert marked([], 0.5) == set()


def test_the_whole_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A lexicon that knows the one toxic word is perfect, whatever the model says."""
    row = {"text": "you idiot, fine", "spans": [4, 5, 6, 7, 8]}
    pq.write_table(pa.Table.from_pylist([row | {"split": s} for s in ("trial", "train")] * 3), tmp_path / "s.parquet")
    toxic = [{"text": f"you {word} {n}", "toxic": int(word == "idiot")} for n in range(10) for word in ("idiot", "ok")]
    pq.write_table(pa.Table.from_pylist(toxic), tmp_path / "t.parquet")
    (tmp_path / "terms.txt").write_text("idiot\n")
    files = [
        "--spans",
        f"{tmp_path}/s.parquet",
        "--train",
        f"{tmp_path}/t.parquet",
        "--lexicon",
        f"{tmp_path}/terms.txt",
    ]
    main(["--model", "tiny/bert", "--methods", "attention", *files])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {line["method"]: line["f1"] for line in lines[:-1]}["lexicon"] == 1.0
    assert lines[-1]["metric"].startswith("span F1, attention against ")
    assert lines[-1]["peer"] == 1.0

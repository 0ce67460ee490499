"""The comparison with Perspective's scores, end to end on a corpus of the shape that it is made for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.perspective import THRESHOLDS, compared, equal_threshold, kappa, main, read
from serve.artifacts import servable
from serve.translation import Translation
from tests.serve.models import write_classifier


def test_figures_and_mapping_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {}
    for side in ("prompt", "continuation"):
        columns[side] = [f"you are number {row} {side}" for row in range(60)]
        for name in ("toxicity", "insult", "flirtation"):
            scores = rng.random(60).round(3).tolist()
            columns[f"{side}_{name}"] = [None, *scores[1:]]
    pq.write_table(pa.table(columns), tmp_path / "rtp.parquet")
    model, mapping = write_classifier(tmp_path / "forum"), tmp_path / "mapping.json"
    words = ["--model", str(model), "--data", str(tmp_path / "rtp.parquet"), "--mapping", str(mapping)]
    main(words)
    main(words)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [(line["attribute"], line["label"], line["scores"]) for line in lines[:4]] == [
        ("TOXICITY", "toxic", "ours"), ("TOXICITY", "toxic", "mapped"),
        ("INSULT", "insult", "ours"), ("INSULT", "insult", "mapped"),
    ]  # fmt: skip
    assert all(line["texts"] < 118 for line in lines)  # a half of those that have scores
    assert all(f"flips@{threshold}" in line for line in lines for threshold in THRESHOLDS)
    version = servable(str(model))[1]
    assert Translation.load(str(mapping)).curves[version].keys() == {"TOXICITY", "INSULT"}


def test_the_corpus_is_read_as_it_is_published(tmp_path: Path) -> None:
    row = {
        "challenging": False,
        "prompt": {"text": "You", "toxicity": 0.25, "insult": None},
        "continuation": {"text": " idiot", "toxicity": 0.9, "insult": 0.8},
    }
    (tmp_path / "prompts.jsonl").write_text(json.dumps(row) + "\n")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "hub.parquet")
    flat = {
        f"{side}_{name}": [row[side][name]] for side in ("prompt", "continuation") for name in ("toxicity", "insult")
    }
    pq.write_table(pa.table({"prompt": ["You"], "continuation": [" idiot"]} | flat), tmp_path / "flat.parquet")
    for name in ("prompts.jsonl", "hub.parquet", "flat.parquet"):
        texts, scores = read(tmp_path / name)
        assert texts == ["You", " idiot"]
        np.testing.assert_array_equal(scores["TOXICITY"], [0.25, 0.9])
        np.testing.assert_array_equal(scores["INSULT"], [np.nan, 0.8])
    pq.write_table(pa.table({"text": ["You idiot"], "toxicity": [0.9], "author": ["x"]}), tmp_path / "own.parquet")
    assert read(tmp_path / "own.parquet") == (["You idiot"], {"TOXICITY": [0.9]})
    pq.write_table(pa.table({"comment": ["You idiot"]}), tmp_path / "other.parquet")
    with pytest.raises(SystemExit, match="has the columns comment, and `text` or `prompt` is needed"):
        read(tmp_path / "other.parquet")


def test_scores_that_differ_by_their_scale_alone_are_mapped_onto_each_other() -> None:
    """Ours are theirs squared: at 0.6 many flip, through the curve or at the threshold 0.36 hardly any."""
    theirs_N = np.random.default_rng(1).random(4000)
    ours, mapped = compared("TOXICITY", "toxic", theirs_N**2, theirs_N)
    assert ours["spearman"] == 1.0
    assert ours["flips@0.6"] > 0.15
    threshold, flips = ours["equal@0.6"]
    assert threshold == pytest.approx(0.36, abs=0.03)
    assert max(flips, mapped["flips@0.6"]) < 0.02
    assert mapped["mean_difference"] < 0.01
    assert mapped["kappa@0.6"] > 0.95


def test_agreement_and_thresholds_by_hand() -> None:
    """Of four texts both flag one, one flags another: observed 0.75, by chance 0.5 x 0.25 + 0.5 x 0.75 = 0.5."""
    first_N, second_N = np.array([True, True, False, False]), np.array([True, False, False, False])
    assert kappa(first_N, second_N) == pytest.approx(0.5)
    assert kappa(second_N & False, second_N & False) == 1.0
    ours_N = np.array([0.1, 0.2, 0.3, 0.4])
    assert equal_threshold(ours_N, np.array([0.0, 0.0, 0.7, 0.9]), 0.6) == pytest.approx(0.25)

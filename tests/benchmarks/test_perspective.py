"""The comparison with Perspective's scores, end to end on a corpus of the shape that it is made for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.perspective import THRESHOLDS, compared, main
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

"""Each benchmark runs end to end at its smallest, and prints its lines; what they say is for docs/results.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serve.models import write_classifier


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """120 English comments of different lengths."""
    words = ("please", "see", "the", "talk", "page", "before", "you", "revert", "that", "edit", "because", "nobody")
    texts = [" ".join(words[row % 5 :] * (row % 4 + 1)) + f" number {row}" for row in range(120)]
    toxic = pa.array([int(row % 3 == 0) for row in range(120)], pa.int8())
    pq.write_table(pa.table({"text": texts, "toxic": toxic}), tmp_path / "comments.parquet")
    return tmp_path / "comments.parquet"


def lines(*words: str) -> dict[str, dict]:
    """The printed lines by metric."""
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["metric"]: line for line in printed if "metric" in line}


def test_train_throughput(comments: Path) -> None:
    words = "benchmarks.train_throughput", "--data", str(comments), "--rows", "64", "--runs", "1"
    assert set(lines(*words)) == {"padding share of all tokens", "real tokens per second"}


def test_engines(comments: Path, tmp_path: Path) -> None:
    """Four processes, one an engine."""
    model = write_classifier(tmp_path / "forum")
    words = "benchmarks.engines", "--model", str(model), "--data", str(comments), "--texts", "64", "--runs", "1"
    found = lines(*words, "--threads", "1")
    assert len(found) >= 3
    assert all(line["ours"] > 0 for line in found.values())


@pytest.mark.slow
@pytest.mark.ray
def test_cleaning(comments: Path) -> None:
    """Both keep the same rows, or the benchmark stops."""
    found = lines("benchmarks.cleaning", "--data", str(comments), "--rows", "240", "--runs", "1")
    assert found["rows cleaned, 2 processes, same output"]["runs"] == 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    "words",
    [("benchmarks.ray_overhead", "--steps", "3", "--warmup", "1"), ("benchmarks.checkpointing", "--saves", "1")],
)
def test_two_workers(words: tuple[str, ...]) -> None:
    found = lines(*words, "--runs", "1")
    assert all(line["ours"] > 0 and line["peer"] > 0 for line in found.values())

"""The scoring benchmark runs end to end, and says that both score alike."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.scoring import main


@pytest.mark.slow
def test_a_run_with_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"you {word} number {n} " * (n % 5 + 1) for n in range(20) for word in ("idiot", "friend")]
    pq.write_table(pa.table({"text": texts}), tmp_path / "comments.parquet")
    command = ["--data", f"{tmp_path}/comments.parquet", "--comments", "40", "--runs", "1", "--model", "tiny"]
    main([*command, "--threads", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert lines[0]["metric"] == "comments with the same score"
    assert lines[0]["ours"] == lines[0]["peer"] == 40
    assert lines[-1]["metric"] == "comments per second"
    assert lines[-1]["runs"] == 1

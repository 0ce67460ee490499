"""The generation benchmark runs end to end, and says that both write the same."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.generation import main


def test_a_run_with_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours forwards a row for each token of a rewrite; the peer all rows until the longest of their batch ends, so the
    same number only where all lengths are equal.
    """
    toxic = [f"you {word} " * (n % 6 + 1) + f"number {n}" for n in range(20) for word in ("idiot", "fool")]
    neutral = [text.replace("idiot", "person").replace("fool ", "") for text in toxic]
    pq.write_table(pa.table({"toxic": toxic, "neutral": neutral}), tmp_path / "pairs.parquet")
    main(["--data", f"{tmp_path}/pairs.parquet", "--texts", "40", "--runs", "1", "--model", "tiny", "--threads", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    by_metric = {line["metric"]: line for line in lines}
    assert by_metric["texts with the same tokens"]["ours"] == by_metric["texts with the same tokens"]["peer"] == 40
    assert by_metric["decoder rows a text"]["ratio"] < 1
    assert lines[-1]["metric"] == "texts per second, greedy"
    assert lines[-1]["runs"] == 1

"""The scoring benchmark runs end to end, and says that both score alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.scoring import main, memory_mib


def test_memory_is_that_of_the_process_itself() -> None:
    """Not what the process that started it once held, which `ru_maxrss` of a new one begins with."""
    held = bytearray(400 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])  # every page
    command = "from benchmarks.scoring import memory_mib; print(memory_mib('VmHWM'))"
    peak = float(subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True).stdout)
    assert memory_mib("VmRSS") > 400
    assert 0 < peak < 400


@pytest.mark.slow
def test_a_run_with_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"you {word} number {n} " * (n % 5 + 1) for n in range(20) for word in ("idiot", "friend")]
    pq.write_table(pa.table({"text": texts}), tmp_path / "comments.parquet")
    command = ["--data", f"{tmp_path}/comments.parquet", "--comments", "40", "--runs", "1", "--model", "tiny"]
    main([*command, "--threads", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert lines[0]["metric"] == "comments with the same score"
    assert lines[0]["ours"] == lines[0]["peer"] == 40
    memory = next(line for line in lines if line["metric"] == "peak memory")
    assert memory["ours"] > 0
    assert memory["peer"] > 0
    assert lines[-1]["metric"] == "comments per second"
    assert lines[-1]["runs"] == 1

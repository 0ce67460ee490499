"""The ablation's table and texts; the whole of it, at a small size, is slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ablation import CONTROLS, CURRICULUM, FIGURES, LOSSES, Measured, main, table, unseen
from detox.data.synthetic_pairs import generate_pairs
from detox.rewriter.comparison_settings import VARIANTS


def test_the_table_has_means_and_each_seed() -> None:
    found = [Measured(seed, name, 100, dict.fromkeys(FIGURES, seed / 10)) for seed in (1, 2) for name in ("a", "b")]
    lines = table(found).splitlines()
    assert len(lines) == 4
    assert lines[2] == f"| a | 100 | {' | '.join(['0.150'] * len(FIGURES))} | 0.100 0.200 |"


def test_nothing_is_tested_that_was_learned_from(tmp_path: Path) -> None:
    pairs = unseen(tmp_path / "test", 500)
    seen = {pair["toxic"] for pair in generate_pairs(500)}
    parts = {part: {row.toxic for row in pairs.part(part)} for part in ("test", "judge")}
    assert all(len(sources) > 100 and not sources & seen for sources in parts.values())
    assert not parts["test"] & parts["judge"]
    assert unseen(tmp_path / "test", 500).digest == pairs.digest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_small_ablation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All systems are trained and judged, and as many steps are as many."""
    main(["--seeds", "1", "--rows", "150", "--storage", str(tmp_path), "--processes", "1"])
    out = capfd.readouterr().out.splitlines()
    lines = [json.loads(line) for line in out if line.startswith('{"benchmark"')]
    steps = {line["system"]: line["steps"] for line in lines if "system" in line}
    named = [name for name in steps if name not in ("copy", "delete", "reference")]
    assert len(named) == len({*named}) == 7 + len(LOSSES) + len(VARIANTS) - 1 + len(CONTROLS) + 1
    assert {f"{CURRICULUM}, {loss}" for loss in LOSSES} | {f"{CURRICULUM}/{control}" for control in CONTROLS} < {*named}
    alike = ("baseline, as many steps", "cleaned, as many steps", "cleaned, as many steps, by competence")
    assert {steps[name] for name in alike} == {steps[CURRICULUM]}
    [command] = [line.partition(": python ")[2] for line in out if line.startswith("the report of seed 1")]
    subprocess.run([sys.executable, *command.split(), "--dry-run"], check=True, stdout=subprocess.DEVNULL)
    assert command.index("curriculum-odds-ratio-s1") < command.index("curriculum-s1")
    assert [line["metric"] for line in lines[-2:]] == [f"{f}, curriculum against baseline" for f in ("j_2024", "copy")]

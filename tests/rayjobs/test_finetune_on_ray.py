"""Tuning on real Ray, two workers on the CPU: QLoRA in four bits, under DDP and under DeepSpeed's ZeRO-2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detox.governance.manifest import verify_manifest
from detox.models import tiny
from tests.hub_contents import hh_dialogues, write_lines

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def run(tmp_path: Path, name: str, *words: str) -> list[dict[str, float]]:
    """What the monitors of a run wrote down."""
    command = [
        sys.executable, "-m", "rayjobs.finetune", "qwen_sft", "--model.name", str(tmp_path / "base"),
        "--data.source", "hh_rlhf", "--data.local", str(tmp_path), "--scaling.num-workers", "2",
        "--scaling.use-gpu", "False", "--model.max-tokens", "128", "--batch.size", "8", "--batch.per-forward", "2",
        "--optimiser.max-steps", "8", "--optimiser.lr", "1e-2", "--checkpoints.every-steps", "4",
        "--monitor.every", "4", "--monitor.prompts", "3", "--monitor.max-new-tokens", "4",
        "--evaluation.prompts", "3", "--evaluation.texts", "3", "--evaluation.max-new-tokens", "4",
        "--run.storage", str(tmp_path / "runs"), "--run.name", name, *words,
    ]  # fmt: skip
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    subprocess.run(command, env=clean, check=True, stdout=subprocess.DEVNULL)
    lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "monitor"]


def test_adapters_in_four_bits_learn_alike_under_ddp_and_zero2(tmp_path: Path) -> None:
    built = tiny.build("qwen2", head="causal_lm", hidden=64)
    built.model.save_pretrained(tmp_path / "base")
    built.tokenizer.save_pretrained(tmp_path / "base")
    write_lines(tmp_path / "train.jsonl", [hh_dialogues(number) for number in range(80)])
    found = {name: run(tmp_path, name, "--optimiser.strategy", name) for name in ("ddp", "zero2")}
    for name, monitored in found.items():
        assert [event["step"] for event in monitored] == [0, 4, 8]
        assert monitored[-1]["perplexity"] < 0.98 * monitored[0]["perplexity"]
        assert monitored[-1]["lora_norm"] > 0
        assert verify_manifest(tmp_path / "runs" / name / "artifact")["job"] == "finetune"
        assert (tmp_path / "runs" / name / "artifact/adapter_model.safetensors").is_file()
    last = [found[name][-1]["perplexity"] for name in ("ddp", "zero2")]
    assert last[0] == pytest.approx(last[1], rel=0.01)

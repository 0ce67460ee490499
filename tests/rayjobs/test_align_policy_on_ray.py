"""Aligning a rewriter on real Ray: a killed worker and then a killed driver change nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from detox.governance.manifest import verify_manifest
from tests.hub import ROOT
from tests.rayjobs.test_train_classifier import train_workers, wait_for_step
from tests.rewriter.artifacts import write_rewriter

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ITERATIONS = 50


def command(storage: Path, workers: int) -> list[str]:
    """With paths as a user writes them: they lead from the driver's folder, wherever a worker is."""
    return [
        sys.executable, "-m", "rayjobs.align_policy", "rewriter_ppo", "--policy.name", "rewriter",
        "--reward.scorer", "lexicon:words.txt", "--data.source", "synthetic_pairs",
        "--data.limit", "400", "--ppo.iterations", str(ITERATIONS), "--ppo.prompts", "16", "--ppo.minibatches", "2",
        "--ppo.max-new-tokens", "16", "--ppo.precision", "fp32", "--checkpoints.every", "5",
        "--evaluation.test-texts", "5", "--evaluation.variants", "greedy", "--scaling.num-workers", str(workers),
        "--run.storage", str(storage), "--run.name", "run",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return plain | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}


def test_a_killed_worker_and_then_a_killed_driver_change_nothing(tmp_path: Path) -> None:
    """The weights, the value head, the optimizer and the price of the KL are those of a run in one process that nothing
    happened to, to the last bit."""
    write_rewriter(tmp_path / "rewriter")
    (tmp_path / "words.txt").write_text("idiot\nmoron\nstupid\nplonker\n")
    started: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "stdout": subprocess.DEVNULL}
    subprocess.run(command(tmp_path / "whole", 0), check=True, **started)
    again, directory = command(tmp_path / "killed", 1), tmp_path / "killed" / "run"
    driver = subprocess.Popen(again, **started)
    try:
        wait_for_step(directory, 12, driver)
        [worker] = train_workers(driver)
        worker.send_signal(signal.SIGKILL)
        wait_for_step(directory, 33, driver)
        children = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.kill()
        driver.wait()
    subprocess.run(again, check=True, **started)
    psutil.wait_procs(children, timeout=30)
    states = [
        torch.load(tmp_path / name / "run" / "trained" / "ppo.pt", weights_only=True) for name in ("whole", "killed")
    ]
    assert states[0]["iteration"] == states[1]["iteration"] == ITERATIONS
    assert states[0]["kl_controller"] == states[1]["kl_controller"]
    assert states[0]["normaliser"] == states[1]["normaliser"]
    for name, weight in states[0]["weights"].items():
        assert torch.equal(weight, states[1]["weights"][name]), name
    moments = [state["optimizer"]["state"] for state in states]
    for at, known in moments[0].items():
        assert torch.equal(known["exp_avg_sq"], moments[1][at]["exp_avg_sq"])
    assert verify_manifest(directory / "artifact")["job"] == "align_policy"

"""Aligning a rewriter on real Ray: killed workers, drivers and reward actors change nothing."""

from __future__ import annotations

import json
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
from detox.models import tiny
from tests.hub import ROOT
from tests.rayjobs.test_train_classifier import train_workers, wait_for_step
from tests.rewriter.artifacts import write_rewriter

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ITERATIONS = 50


def command(storage: Path, workers: int, iterations: int = ITERATIONS) -> list[str]:
    """With paths as a user writes them: they lead from the driver's folder, wherever a worker is."""
    return [
        sys.executable, "-m", "rayjobs.align_policy", "rewriter_ppo", "--policy.name", "rewriter",
        "--reward.scorer", "lexicon:words.txt", "--data.source", "synthetic_pairs",
        "--data.limit", "400", "--ppo.iterations", str(iterations), "--ppo.prompts", "16", "--ppo.minibatches", "2",
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


def test_a_pool_of_which_an_actor_is_killed_rewards_as_the_workers_own_scorers(tmp_path: Path) -> None:
    """Two workers under ZeRO-2 and two actors, all on halves of two CPUs: every reward, and the weights, to the last
    bit."""
    write_rewriter(tmp_path / "rewriter")
    write_classifier(tmp_path / "classifier")
    started: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "stdout": subprocess.DEVNULL}
    more = [
        "--reward.scorer", "classifier", "--reward.label", "toxic", "--ppo.strategy", "zero2",
        "--scaling.resources-per-worker", "CPU", "0.5",
    ]  # fmt: skip
    subprocess.run([*command(tmp_path / "own", 2, iterations=16), *more], check=True, **started)
    pooled = [*command(tmp_path / "pooled", 2, iterations=16), *more, "--reward.pool.actors", "2"]
    driver = subprocess.Popen([*pooled, "--reward.pool.num-cpus", "0.5"], **started)
    try:
        wait_for_step(tmp_path / "pooled" / "run", 5, driver)
        actors = [child for child in psutil.Process(driver.pid).children(True) if is_reward_actor(child)]
        assert len(actors) == 2
        actors[0].send_signal(signal.SIGKILL)
        assert driver.wait(300) == 0
    finally:
        driver.kill()
        driver.wait()
    assert not any(actor.is_running() for actor in actors)
    lines = [(tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines() for name in ("own", "pooled")]
    rewards = [[json.loads(line)["rewards/toxicity/mean"] for line in each] for each in lines]
    assert rewards[0] == rewards[1]
    assert len(set(rewards[0])) == 16
    states = [
        torch.load(tmp_path / name / "run" / "trained" / "ppo.pt", weights_only=True) for name in ("own", "pooled")
    ]
    for name, weight in states[0]["weights"].items():
        assert torch.equal(weight, states[1]["weights"][name]), name


def write_classifier(folder: Path) -> None:
    """Untrained, so that its scores vary with everything that is said."""
    names = {"id2label": {0: "polite", 1: "toxic"}, "label2id": {"polite": 0, "toxic": 1}}
    built = tiny.build("bert", head="sequence_classification", **names)
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)


def is_reward_actor(process: psutil.Process) -> bool:
    return "RewardActor" in " ".join(process.cmdline())

"""What Ray Train costs over bare torch DDP: the same training loop on two workers, after warm-up.

Each side runs `ClassifierTrainer` with two gloo ranks of one thread each; ours under Ray Train with our callback, the
peer as two plain processes with torch's environment rendezvous. A callback notes the process's CPU seconds and the
wall clock after the warm-up steps and at the end. CPU seconds of the training processes are the headline; wall time on
two saturated cores also carries Ray's other processes.

    python -m benchmarks.ray_overhead [--steps 30] [--warmup 8] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from benchmarks.lines import print_line, rounds

ROWS = 4096


class Stopwatch(TrainerCallback):
    """CPU and wall seconds between the end of the warm-up and the last step."""

    def __init__(self, warmup: int, steps: int) -> None:
        self._warmup, self._steps = warmup, steps
        self.cpu = self.wall = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._warmup:
            self._cpu0, self._wall0 = time.process_time(), time.perf_counter()
        if state.global_step == self._steps:
            self.cpu, self.wall = time.process_time() - self._cpu0, time.perf_counter() - self._wall0


def train_rank(rank: int, ranks: int, steps: int, warmup: int, callbacks: list[TrainerCallback]) -> dict[str, float]:
    """One rank of the loop; the process group is there already, or made by accelerate from the environment."""
    from transformers import BertConfig, BertForSequenceClassification

    from benchmarks.train_throughput import MINILM
    from detox.classifier.batching import TokenisedRows
    from detox.classifier.losses import bce
    from detox.classifier.training import ClassifierTrainer, LabelledRows, training_arguments
    from detox.runs.config import override
    from rayjobs.train_classifier import minilm

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.9, 0.9, ROWS), 3, 256).astype(int)
    tokens = TokenisedRows.of([rng.integers(5, 8000, length).tolist() for length in lengths])
    rows = LabelledRows(tokens, (rng.random((ROWS, 1)) < 0.1).astype(np.float32))
    one = LabelledRows(TokenisedRows.of([tokens[0].tolist()]), rows.labels_NL[:1])
    config = override(minilm(), {"optimiser.max_steps": steps, "optimiser.precision": "fp32"})
    stopwatch = Stopwatch(warmup, steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, Path(folder), ranks)
        arguments.eval_strategy = arguments.save_strategy = "no"  # type: ignore[assignment]
        trainer = ClassifierTrainer(
            model=BertForSequenceClassification(BertConfig(vocab_size=8000, num_labels=1, **MINILM)),
            args=arguments, config=config, labels=["toxic"], train=rows, validation=one, loss=bce, pad_id=0,
            callbacks=[stopwatch, *callbacks],
        )  # fmt: skip
        trainer.train()
    return {"cpu": stopwatch.cpu, "wall": stopwatch.wall}


def bare(steps: int, warmup: int) -> list[dict[str, float]]:
    """Both ranks' figures of two plain processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    shared |= {"OMP_NUM_THREADS": "1"}  # as Ray sets it for workers of one CPU; else accelerate takes two threads
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ray_overhead", "--rank", str(rank), "--steps", str(steps),
             "--warmup", str(warmup)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]


def ray_worker(settings: dict[str, Any]) -> None:
    import ray.train

    from detox.runs.storage import Storage
    from rayjobs.ray_glue.report import ReportCallback

    context = ray.train.get_context()
    rank = context.get_world_rank()
    report = ReportCallback(Storage(settings["folder"]))
    figures = train_rank(rank, context.get_world_size(), settings["steps"], settings["warmup"], [report])
    (Path(settings["folder"]) / f"rank-{rank}.json").write_text(json.dumps(figures))


def on_ray(steps: int, warmup: int) -> list[dict[str, float]]:
    """Both ranks' figures under Ray Train, in a Ray that is started once for all runs."""
    from detox.runs.config import ScalingSettings, override
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.fit import fit
    from rayjobs.ray_glue.launch import connect
    from rayjobs.train_classifier import minilm

    with tempfile.TemporaryDirectory() as folder:
        connect(override(minilm(), {"run.storage": folder}))
        settings = {"folder": folder, "steps": steps, "warmup": warmup}
        fit(ray_worker, settings, RunDirectory(Storage(folder)), ScalingSettings(num_workers=2))
        return [json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank >= 0:
        print(json.dumps(train_rank(options.rank, 2, options.steps, options.warmup, [])))
        return
    found: dict[str, dict[str, list[float]]] = {who: {"cpu": [], "wall": []} for who in ("ours", "peer")}
    for _ in rounds(options.runs):
        for who, run in (("ours", on_ray), ("peer", bare)):
            ranks = run(options.steps, options.warmup)
            found[who]["cpu"].append(sum(rank["cpu"] for rank in ranks))
            found[who]["wall"].append(max(rank["wall"] for rank in ranks))
    print_line("ray_overhead", "wall time", found["ours"]["wall"], found["peer"]["wall"], "lower", "s")
    print_line("ray_overhead", "CPU of the workers", found["ours"]["cpu"], found["peer"]["cpu"], "lower", "s")


if __name__ == "__main__":
    main()

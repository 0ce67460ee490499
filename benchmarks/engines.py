"""Engines for a classifier on a CPU against torch in float32: texts a second, and what rounding costs.

`python -m benchmarks.engines --model RUN --data FILE [--texts 1600] [--runs 5]` scores the same comments by each engine
in alternating runs, each in a process of its own. The model must not have seen the comments: `FILE` is the
`test.parquet` of its prepared data, in the folder that the run named at its beginning.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import print_line, rounds

ENGINES = ("torch", "torch_bf16", "onnx_int8", "openvino")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.worker:
        print(json.dumps(_measure(options.worker, Path(options.folder), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES}
        for _ in rounds(options.runs):
            for name in ENGINES:
                runs[name].append(_in_process(name, folder, options))
    _report(runs, _comments(options)[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--model", required=True, help="run directory of train_classifier")
    parser.add_argument("--data", required=True, help="parquet with `text` and the label")
    parser.add_argument("--label", default="toxic")
    parser.add_argument("--texts", type=int, default=1600)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return parser


def _comments(options: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Texts and their labels."""
    import pyarrow.parquet as pq

    table = pq.read_table(options.data, columns=["text", options.label]).slice(0, options.texts)
    return table["text"].to_pylist(), table[options.label].to_numpy() >= 0.5


def _in_process(name: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.engines", "--worker", name, "--folder", folder]
    for option in ("model", "data", "label", "texts", "threads"):
        command += [f"--{option}", str(getattr(options, option))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from detox.classifier.exported import exported
    from detox.classifier.model_scorers import load_model_scorer

    torch.set_num_threads(options.threads)
    texts, _ = _comments(options)
    dtype = "bfloat16" if name == "torch_bf16" else "float32"
    scorer = load_model_scorer(options.model, device="cpu", dtype=dtype)
    if not name.startswith("torch"):
        scorer.engine = exported(scorer.engine, name, folder, options.threads)  # type: ignore[arg-type]
    scorer.score(texts[:64])
    start = time.perf_counter()
    scores = scorer.score(texts)
    seconds = time.perf_counter() - start
    return {"rate": len(texts) / seconds, "scores": scores.column(options.label).tolist()}


def _report(runs: dict[str, list[dict[str, Any]]], labels_N: np.ndarray) -> None:
    from sklearn.metrics import roc_auc_score

    def rates(name: str) -> Sequence[float]:
        return [run["rate"] for run in runs[name]]

    peer_N = np.array(runs["torch"][0]["scores"])
    peer_auc = float(roc_auc_score(labels_N, peer_N))
    best = max(ENGINES[1:], key=lambda name: float(np.median(rates(name))))
    for name in (*(other for other in ENGINES[1:] if other != best), best):
        scores_N = np.array(runs[name][0]["scores"])
        auc = float(roc_auc_score(labels_N, scores_N))
        largest = float(np.abs(scores_N - peer_N).max())
        print_line(f"engines {name}", "largest change of a probability", [largest], [1.0], "lower", "")
        print_line(f"engines {name}", "ROC-AUC", [auc], [peer_auc], "higher", "")
        print_line(f"engines {name}", "texts per second", rates(name), rates("torch"), "higher", "texts/s")


if __name__ == "__main__":
    main()

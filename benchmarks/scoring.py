"""Our scorer against `Detoxify.predict`, called in chunks of 32 as its users call it: same weights, same comments.

`python -m benchmarks.scoring [--data FILE] [--comments 8000] [--runs 5]` saves a BERT in Detoxify's checkpoint
format, loads it with both, and scores the same comments in alternating runs, each in a process of its own, so that
memory can be compared. Detoxify cuts a comment at the model's 512 tokens; ours reads the rest in further windows, so
it does more work on the few long comments, whose scores may be higher.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lines import print_line, rounds
from benchmarks.peers.common import memory_mib

CHUNK = 32
"""Comments in a call of `Detoxify.predict`."""

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 32},
    "small": {"hidden": 192, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 768},
    "minilm": {"hidden": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
"""`small` lets five runs of 8,000 comments end in ten minutes on two cores."""


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.worker:
        print(json.dumps(_measure(options.worker, Path(options.folder), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(options.model, Path(folder), _comments(options))
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": [], "ours_half": []}
        for _ in rounds(options.runs):
            for who in runs:
                runs[who].append(_in_process(who, folder, options))
    _report(runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--data", default="../shared/data/jigsaw_train20k_binary.parquet", help="parquet with `text`")
    parser.add_argument("--comments", type=int, default=8000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=tuple(SIZES), default="small")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    return parser


def _comments(options: argparse.Namespace) -> list[str]:
    import pyarrow.parquet as pq

    texts = pq.read_table(options.data, columns=["text"])["text"].to_pylist()
    if len(texts) < options.comments:
        raise SystemExit(f"{options.data} has {len(texts)} comments, fewer than --comments {options.comments}")
    return texts[: options.comments]


def write_checkpoint(model: str, folder: Path, texts: list[str]) -> None:
    """`<folder>/bert-<digest>.ckpt` in Detoxify's format, with its config.json and tokenizer beside it.

    The weights are random, which costs the same time as trained ones.
    """
    import hashlib

    import torch

    from detox.models import tiny

    labels = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    built = tiny.build(
        "bert", texts, head="sequence_classification", vocab_size=30_000, num_labels=len(labels), **SIZES[model]
    )
    arch = {
        "model_type": str(folder),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
        "num_classes": len(labels),
    }
    config = {"arch": {"args": arch}, "dataset": {"args": {"classes": labels}}}
    built.model.config.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    torch.save({"config": config, "state_dict": built.model.state_dict()}, folder / "new.ckpt")
    digest = hashlib.sha256((folder / "new.ckpt").read_bytes()).hexdigest()
    (folder / "new.ckpt").rename(folder / f"bert-{digest[:8]}.ckpt")


def _in_process(who: str, folder: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scoring", "--worker", who, "--folder", folder]
    for name in ("data", "comments", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _measure(who: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(options.threads)
    texts = _comments(options)
    if who == "ours_half":
        texts = texts[: len(texts) // 2]
    predict = _peer(folder) if who == "peer" else _ours(folder)
    predict(texts[:CHUNK])
    before = memory_mib("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    scores = predict(texts)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    peak = memory_mib("VmHWM") - before
    return {"rate": len(texts) / seconds, "cpu": cpu, "mib": peak, "scores": [float(score) for score in scores[:2000]]}


def _ours(folder: Path) -> Any:
    from detox.classifier.scorer import load_scorer

    scorer = load_scorer(f"detoxify:{folder}")
    return lambda texts: scorer.score(texts).column("toxicity")


def _peer(folder: Path) -> Any:
    from detoxify import Detoxify

    model = Detoxify(checkpoint=str(next(folder.glob("*.ckpt"))), huggingface_config_path=str(folder))

    def predict(texts: list[str]) -> list[float]:
        scores: list[float] = []
        for begin in range(0, len(texts), CHUNK):
            scores += model.predict(texts[begin : begin + CHUNK])["toxicity"]
        return scores

    return predict


def _report(runs: dict[str, list[dict[str, Any]]]) -> None:
    def all_of(who: str, key: str) -> list[float]:
        return [run[key] for run in runs[who]]

    scores = zip(runs["ours"][0]["scores"], runs["peer"][0]["scores"], strict=True)
    equal = [float(abs(ours - theirs) < 1e-5) for ours, theirs in scores]
    print_line("scoring", "comments with the same score", [sum(equal)], [len(equal)], "higher", "comments")
    print_line("scoring", "peak memory", all_of("ours", "mib"), all_of("peer", "mib"), "lower", "MiB")
    halves = all_of("ours_half", "mib")
    print_line("scoring", "peak memory, all comments over half of them", all_of("ours", "mib"), halves, "lower", "MiB")
    print_line("scoring", "CPU seconds", all_of("ours", "cpu"), all_of("peer", "cpu"), "lower", "s")
    rates = all_of("ours", "rate"), all_of("peer", "rate")
    print_line("scoring", "comments per second", *rates, "higher", "comments/s")


if __name__ == "__main__":
    main()

"""Bytes written, and time blocked, for the checkpoints of two ranks: our report callback against Ray's own.

Both train the same MiniLM-shaped model for the same steps on two Ray workers and save as often, once to settle and
then counted. Both figures are taken from the end of an optimizer step to the start of the next, where only saving and
reporting happen, so nothing is subtracted: bytes are those that the worker processes hand to write calls (`wchar` of
/proc/self/io), blocked is the wall time. Steps that do not save are counted too, and add next to nothing.

The peer is set up as in Ray's documentation, with one `output_dir` for the workers of a node: there rank 0 writes the
model and each rank its random state, and each rank's callback then copies the whole folder. Ours has a folder a rank.

Saves are two seconds apart. A report waits until Ray's controller, which polls once a second, has taken the one before;
saves that follow each other faster would measure the polls, whoever writes.

    python -m benchmarks.checkpointing [--saves 4] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from benchmarks.lines import print_line, rounds
from benchmarks.train_throughput import MINILM

STEPS_BETWEEN, ROWS, TOKENS = 4, 8, 40


class Counter(TrainerCallback):
    """Bytes and seconds from the end of a step to the start of the next, where only saving happens."""

    def __init__(self) -> None:
        self.bytes, self.seconds = 0, 0.0
        self._saves = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bytes, self._since = written(), time.perf_counter()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note(state)

    def _note(self, state: Any) -> None:
        if state.global_step > STEPS_BETWEEN:  # the first save settles imports and buffers
            self.bytes += written() - self._bytes
            self.seconds += time.perf_counter() - self._since


def written() -> int:
    """Bytes that this process has handed to write calls."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


class Noise(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Random rows, long enough that a controller's poll falls between two saves."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, row: int) -> dict[str, Any]:
        ids = torch.randint(5, 8000, (TOKENS,), generator=torch.Generator().manual_seed(row))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(row % 2)}


def worker(settings: dict[str, Any]) -> None:
    import ray.train
    from ray.train.huggingface.transformers import RayTrainReportCallback

    from detox.runs.storage import Storage
    from rayjobs.ray_glue.fit import CHECKPOINTS, fresh_scratch
    from rayjobs.ray_glue.report import ReportCallback

    rank = ray.train.get_context().get_world_rank()
    checkpoints = Storage(settings["folder"]).child(CHECKPOINTS)
    ours = settings["who"] == "ours"
    scratch = fresh_scratch(checkpoints, Path("/unused")) if ours else Path(settings["folder"]) / "trainer"
    counter = Counter()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    trainer = Trainer(
        model=BertForSequenceClassification(BertConfig(vocab_size=8000, num_labels=2, **MINILM)),
        args=TrainingArguments(
            output_dir=str(scratch), max_steps=STEPS_BETWEEN * (settings["saves"] + 1), save_steps=STEPS_BETWEEN,
            save_strategy="steps", use_cpu=True, report_to=[],
            disable_tqdm=True, per_device_train_batch_size=ROWS, logging_strategy="no", save_total_limit=2,
        ),
        train_dataset=Noise(),
        callbacks=[counter, ReportCallback(checkpoints) if ours else RayTrainReportCallback()],
    )  # fmt: skip
    trainer.train()
    figures = {"bytes": counter.bytes, "seconds": counter.seconds}
    (Path(settings["folder"]) / f"rank-{rank}.json").write_text(json.dumps(figures))


def measure(who: str, saves: int) -> dict[str, float]:
    """Bytes of both ranks together and the longer rank's seconds, a save."""
    from detox.runs.config import ScalingSettings, override
    from detox.runs.rundir import RunDirectory
    from detox.runs.storage import Storage
    from rayjobs.ray_glue.fit import fit
    from rayjobs.ray_glue.launch import connect
    from rayjobs.train_classifier import minilm

    with tempfile.TemporaryDirectory() as folder:
        connect(override(minilm(), {"run.storage": folder}))
        score = "selection" if who == "ours" else None
        fit(worker, {"folder": folder, "who": who, "saves": saves}, RunDirectory(Storage(folder)),
            ScalingSettings(num_workers=2), keep=2, score=score)  # fmt: skip
        ranks = [json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return {
        "bytes": sum(rank["bytes"] for rank in ranks) / saves,
        "seconds": max(rank["seconds"] for rank in ranks) / saves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in rounds(options.runs):
        for who, figures in found.items():
            figures.append(measure(who, options.saves))
    for key, metric, unit in (("seconds", "time blocked a save", "s"), ("bytes", "bytes written a save", "B")):
        print_line(
            "checkpointing", metric, [run[key] for run in found["ours"]], [run[key] for run in found["peer"]],
            "lower", unit,
        )  # fmt: skip


if __name__ == "__main__":
    main()

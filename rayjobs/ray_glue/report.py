"""Our report callback: what `transformers.Trainer` saves and logs, handed to Ray Train and to the run's tracker.

Ray's own `RayTrainReportCallback` copies the whole checkpoint to a temporary folder and uploads it, once a rank. Here
each rank saves into a folder of its own and attaches exactly what it wrote: rank 0 the model, the optimizer and the
state, the others their random state (or, under ZeRO, their shard). Ray merges them. The upload runs beside the
training, and deletes the local copy.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from detox.runs.tracking import Tracker

SELECTION = "selection"
"""Metric by which Ray keeps the best checkpoint: its step where it is the best so far, else 0. The later a new best,
the higher, so the highest is always the best, and ties are decided as the Trainer decides them."""


class ReportCallback(TrainerCallback):
    """Reports checkpoints to Ray Train; rank 0 also writes metrics and progress.

    Args:
        tracker: rank 0's; other ranks have none.
        epochs: planned, for the progress line.
    """

    def __init__(self, tracker: Tracker | None, best_metric: str) -> None:
        self._tracker, self._best_metric = tracker, best_metric
        self._started, self._first_step = time.monotonic(), -1

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._tracker is None:
            return
        logs: dict[str, Any] = kwargs["logs"]
        validation = {key.removeprefix("eval_"): value for key, value in logs.items() if key.startswith("eval_")}
        if validation:
            self._tracker.log("validation", state.global_step, validation)
            self._say(state, f"validation {self._best_metric} {validation.get(self._best_metric, float('nan')):.4f}")
        elif "loss" in logs:
            self._tracker.log("train", state.global_step, logs)
            self._say(state, f"loss {logs['loss']:.4f} · {logs['tokens_per_second']:,.0f} tokens/s")

    def _say(self, state: TrainerState, what: str) -> None:
        if self._first_step < 0:
            self._started, self._first_step = time.monotonic(), state.global_step
        done = state.global_step - self._first_step
        left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step) if done else 0.0
        rest = f" · {left / 60:.0f} min left" if left > 90 else f" · {left:.0f} s left" if left else ""
        print(f"step {state.global_step}/{state.max_steps} · epoch {state.epoch:.2f} · {what}{rest}", flush=True)
        sys.stdout.flush()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save at once when a node is about to be reclaimed. Asking is a barrier, hence only every few steps."""
        if state.global_step % max(int(args.logging_steps), 1) == 0 and ray.train.get_preemption_info() is not None:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        metrics = {
            "step": state.global_step,
            SELECTION: state.global_step if state.best_global_step == state.global_step else 0,
        }
        ray.train.report(
            metrics,
            checkpoint=Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=f"step-{state.global_step:07d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        )

"""Our report callback: what `transformers.Trainer` saves, handed to Ray Train.

Ray's own `RayTrainReportCallback` copies the whole checkpoint to a temporary folder and uploads it, once a rank. Here
each rank saves into a scratch folder of its own and attaches exactly what it wrote: rank 0 the model, the optimizer
and the state, the others their random state (or, under ZeRO, their shards); Ray merges them. On a local or mounted
storage the scratch lies beside the checkpoints and its files are renamed into place, so every byte is written once; on
an object store the upload runs beside the training.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import ray.train
from pyarrow import fs as pafs
from ray.train import Checkpoint, CheckpointUploadMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from detox.runs.storage import Storage

SELECTION = "selection"
"""Metric by which Ray keeps the best checkpoint: its step where it is the best so far, else 0. The later a new best,
the higher, so the highest is always the best, and ties are decided as the Trainer decides them."""

PREEMPTION_EVERY = 10
"""Optimizer steps between two questions whether a node is about to be reclaimed; each is a barrier."""


class ReportCallback(TrainerCallback):
    """Reports each saved checkpoint; saves at once when a node of the run is about to be reclaimed.

    Args:
        checkpoints: the folder that Ray Train keeps the checkpoints in.
    """

    def __init__(self, checkpoints: Storage) -> None:
        self._checkpoints = checkpoints
        self._before = 0

    def start_stage(self, name: str, steps_before: int) -> None:
        """Checkpoints from now on belong to this stage of a curriculum; steps are counted over all stages."""
        self._before = steps_before

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if state.global_step % PREEMPTION_EVERY == 0 and ray.train.get_preemption_info() is not None:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        made = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        report_checkpoint(
            self._checkpoints, made, self._before + state.global_step, state.best_global_step == state.global_step
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        await_uploads(self._checkpoints)


def report_checkpoint(checkpoints: Storage, made: Path, step: int, is_best: bool = False) -> None:
    """Hand Ray Train what this rank saved into `made`, which is moved away; every rank must call it.

    Args:
        checkpoints: the folder that Ray Train keeps the checkpoints in.
        is_best: of all so far.
    """

    def upload(checkpoint: Checkpoint, name: str) -> Checkpoint:
        made = Path(checkpoint.path)
        target = checkpoints.child(name)
        if target.is_local:
            move_files(made, target.local_path)
        else:
            pafs.copy_files(str(made), target.path, pafs.LocalFileSystem(), target.filesystem)
            shutil.rmtree(made)
        return Checkpoint(target.path, filesystem=target.filesystem)

    ray.train.report(
        {"step": step, SELECTION: step if is_best else 0},
        checkpoint=Checkpoint.from_directory(str(made)),
        checkpoint_dir_name=f"step-{step:07d}",
        checkpoint_upload_mode=CheckpointUploadMode.SYNC if checkpoints.is_local else CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=False,
        checkpoint_upload_fn=upload,
    )


def await_uploads(checkpoints: Storage) -> None:
    """Wait for uploads on their way: the scratch folder goes when the worker ends."""
    if not checkpoints.is_local:
        ray.train.get_all_reported_checkpoints()


def move_files(made: Path, target: Path) -> None:
    """Rename every file below `made` to its place below `target`, which other ranks fill at the same time."""
    for path in sorted(made.rglob("*")):
        place = target / path.relative_to(made)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    shutil.rmtree(made)

"""One Ray Train fit with the project's conventions, and what to read from its result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from detox.runs.config import ScalingSettings
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage
from rayjobs.ray_glue.report import SELECTION

CHECKPOINTS = "checkpoints"


class TrainingFailed(RuntimeError):
    """Workers failed more often than `scaling.max_failures` allows; says how the last one failed."""


def fit(
    worker: Callable[[dict[str, Any]], Any],
    settings: dict[str, Any],
    run: RunDirectory,
    scaling: ScalingSettings,
    keep: int = 2,
    score: str | None = SELECTION,
) -> Result:
    """Run `worker(settings)` on every worker of a Ray Train job whose checkpoints lie in the run directory.

    Args:
        keep: checkpoints to keep: the best by the reported metric `score`, and always the last.

    The same run directory resumes: Ray hands the last checkpoint to the workers (`ray.train.get_checkpoint()`).

    Raises:
        TrainingFailed: the run failed for good; the same command goes on from its last checkpoint.
    """
    workers = (scaling.min_workers, scaling.num_workers) if scaling.min_workers else scaling.num_workers
    trainer = TorchTrainer(
        worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=workers,  # type: ignore[arg-type]  # Ray's annotations are of Train V1
            use_gpu=scaling.use_gpu,
            resources_per_worker=scaling.resources_per_worker or None,
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # likewise
            name=CHECKPOINTS,
            storage_path=run.storage.path,
            storage_filesystem=run.storage.filesystem,
            logging_config=LoggingConfig(log_level="WARNING"),
            failure_config=FailureConfig(max_failures=scaling.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=keep, checkpoint_score_attribute=score, checkpoint_score_order="max"
            ),
        ),
    )
    try:
        return trainer.fit()
    except TrainingFailedError as error:
        raise TrainingFailed(_explain(error, run)) from error


def _explain(error: TrainingFailedError, run: RunDirectory) -> str:
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        rank, cause = next(iter(sorted(error.worker_failures.items())))
        what = f"worker {rank} failed: {str(cause).strip()}"
    else:
        what = str(error)
    return f"{what}\nThe run {run.uri} keeps its checkpoints: the same command goes on from the last one."


def best_checkpoint(result: Result) -> Checkpoint:
    """The checkpoint with the best validation figure (see `SELECTION`); the last where there was no validation."""
    if not result.best_checkpoints:
        raise ValueError("the run has no checkpoint: it ended before its first evaluation; train for more steps")
    checkpoint, _ = max(result.best_checkpoints, key=lambda item: (item[1][SELECTION], item[1]["step"]))
    return checkpoint


def fresh_scratch(checkpoints: Storage, local: Path) -> Path:
    """An empty folder of this worker's own for checkpoints in the making: beside the checkpoints where these are on a
    file system, so that finished files are renamed into place and not copied; else below `local`."""
    rank = ray.train.get_context().get_world_rank()
    folder = (checkpoints.local_path if checkpoints.is_local else local) / f".making-{rank}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def last_trainer_checkpoint(folder: Path) -> Path | None:
    """The newest complete `checkpoint-<step>` that `transformers.Trainer` left in `folder`."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)

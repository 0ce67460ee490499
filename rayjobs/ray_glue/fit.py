"""One Ray Train fit with the project's conventions, and what to read from its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.train import Checkpoint, CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from detox.runs.config import ScalingSettings
from detox.runs.rundir import RunDirectory
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
) -> Result:
    """Run `worker(settings)` on every worker of a Ray Train job whose checkpoints lie in the run directory.

    The same run directory resumes: Ray hands the last checkpoint to the workers (`ray.train.get_checkpoint()`).

    Raises:
        TrainingFailed: the run failed for good; the same command goes on from its last checkpoint.
    """
    workers = (scaling.min_workers, scaling.num_workers) if scaling.min_workers else scaling.num_workers
    trainer = TorchTrainer(
        worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=workers,  # type: ignore[arg-type]  # Ray's stub knows no elastic (min, max)
            use_gpu=scaling.use_gpu,
            resources_per_worker=scaling.resources_per_worker or None,
        ),
        run_config=RunConfig(
            name=CHECKPOINTS,
            storage_path=run.storage.path,
            storage_filesystem=run.storage.filesystem,
            failure_config=FailureConfig(max_failures=scaling.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=keep, checkpoint_score_attribute=SELECTION, checkpoint_score_order="max"
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

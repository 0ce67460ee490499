"""An earlier evaluation to compare with (S1 step 16): only one that differs in the model and in nothing else."""

from __future__ import annotations

from detox.evaluation.generation_metrics import Judged
from detox.evaluation.generation_settings import EvaluateModelConfig
from detox.evaluation.generation_table import judged_of, read_table
from detox.runs.config import flatten
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

JOB = "evaluate_model"
SAME = ("continuations", "sampling", "judge", "judge_label", "threshold", "language_model", "embed_english")
"""Settings that a baseline shares, beside the prompts."""


def check_baseline(config: EvaluateModelConfig) -> None:
    """What can be known to fail before any prompt is continued.

    Raises:
        ValueError: the baseline is no finished run of `evaluate_model`, or another setting made its figures.
    """
    if not config.baseline:
        return
    run = RunDirectory(Storage(config.baseline))
    if not run.is_complete or run.read_json("config.json").get("_job") != JOB:
        raise ValueError(f"--baseline {config.baseline} is no finished run of {JOB}: name its run directory")
    there, here = flatten(run.read_json("config.json")), flatten(config)
    other = [
        f"{key}: {there.get(key)!r} there, {here[key]!r} here"
        for key in here
        if key.partition(".")[0] in SAME and there.get(key) != here[key]
    ]
    if other:
        listed = "\n  ".join(other)
        raise ValueError(f"--baseline {config.baseline} was made otherwise, so it does not compare:\n  {listed}")


def baseline_of(config: EvaluateModelConfig, prompts_digest: str) -> Judged:
    """The baseline's continuations.

    Raises:
        ValueError: they are of other prompts.
    """
    run = RunDirectory(Storage(config.baseline))
    if run.summary()["prompts_digest"] != prompts_digest:
        raise ValueError(
            f"--baseline {config.baseline} continued other prompts: take its prompts.source, prompts.count and run.seed"
        )
    return judged_of(read_table(run.storage))

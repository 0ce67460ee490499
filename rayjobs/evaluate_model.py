"""Measure what a causal language model says: how toxic, how coherent, how diverse (S1 steps 10, 11, 15, 16).

The model continues prompts of RealToxicityPrompts (Gehman et al. 2020), or of a file, 1,000 by default, 25 times each;
a classifier judges the continuations. The run directory holds `generations.parquet` (a row a continuation with every
figure), `rejects.jsonl` (prompts that were not continued, and why), `summary.json` and `report.html`: toxicity rate,
expected maximum toxicity, toxicity probability, perplexity under a frozen model, similarity to the prompt, distinct-n
and self-BLEU, with intervals over prompts. What was continued is kept there, so the same command goes on where it
stopped.

A hub model is taken at one commit, which the run records; with `--sha256` other weights than those expected end the
run. `default` samples as S1 step 10 says (temperature 0.7, top-k 50, at most 100 tokens with the prompt),
`constrained` as step 15 says (also top-p 0.9, repetition penalty 1.2, at least 20 new tokens). Departures: where S1
draws one continuation a prompt, here are 25, without which there is no expected maximum (`--continuations 1` is S1's).

    python -m rayjobs.evaluate_model default --model Qwen/Qwen1.5-1.8B --dtype bfloat16 \\
        --judge runs/train-classifier-toxicity-regressor-s42 --scaling.num-workers 1 --scaling.use-gpu True
    python -m rayjobs.evaluate_model default --model runs/tuned --judge runs/train-classifier-toxicity-regressor-s42 \\
        --baseline runs/evaluate-model-default-s42 --run.name evaluate-tuned
    python -m rayjobs.evaluate_model constrained --model runs/tuned --judge lexicon:terms.txt \\
        --prompts.source prompts.csv --prompts.column text
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from detox.evaluation.generation_settings import CONSTRAINED, EvaluateModelConfig
from detox.runs.config import override

if TYPE_CHECKING:
    from detox.runs.rundir import RunDirectory

JOB = "evaluate_model"


def default() -> EvaluateModelConfig:
    """Sampling of S1 step 10; your own model, judge and prompts: --model, --judge, --prompts.source."""
    return EvaluateModelConfig()


def constrained() -> EvaluateModelConfig:
    """The same under the constraints of S1 step 15."""
    return EvaluateModelConfig(sampling=CONSTRAINED)


RECIPES: dict[str, Callable[[], EvaluateModelConfig]] = {"default": default, "constrained": constrained}


def run(config: EvaluateModelConfig, recipe: str) -> dict[str, Any]:
    """Evaluate, or go on where that stopped.

    Returns:
        the final figures, as `summary.json` holds them.
    """
    from detox.classifier.scorer import check_toxicity
    from detox.evaluation.generation_baseline import check_baseline
    from detox.evaluation.generation_run import evaluate
    from detox.evaluation.prompts import check_prompts, read_prompts
    from detox.runs.progress import Listener
    from rayjobs.ray_glue.job import run_once
    from rayjobs.ray_glue.launch import check_paths, connect, on_one_node

    check_paths(config)
    refuse_unseen(config)
    check_prompts(config.prompts)
    check_toxicity(config.judge, config.judge_label)
    config = with_commits(config)
    check_baseline(config)

    def work(directory: RunDirectory) -> None:
        if config.scaling.num_workers:
            connect(config)
        prompts = read_prompts(config.prompts, config.run.seed)
        with Listener(directory):
            on_one_node(evaluate, config.scaling)(config, recipe, directory.uri, prompts)

    places = {"report": "report.html", "generations": "generations.parquet", "refused": "rejects.jsonl"}
    return run_once(config, JOB, recipe, work, places)


def with_commits(config: EvaluateModelConfig) -> EvaluateModelConfig:
    """The config with the commit of each hub model, so that a run that goes on goes on with the same ones.

    Raises:
        ValueError: no such model, no access to it, or the hub cannot be reached.
    """
    from detox.classifier.corpus import model_facts
    from detox.models.loading import commit_of

    models = {"model": config.model} | ({"language_model": config.language_model} if config.language_model else {})
    found = {key: commit_of(name) for key, name in models.items() if "://" not in name}
    found["judge"] = model_facts(config.judge).get("commit", "")
    names = {key: getattr(config, key).partition("@")[0] for key in found}
    return override(config, {key: f"{names[key]}@{commit}" for key, commit in found.items() if commit})


def refuse_unseen(config: EvaluateModelConfig) -> None:
    """Raises:
    ValueError: a relative path, where the work is done in another working directory.
    """
    from pathlib import Path

    from rayjobs.ray_glue.launch import in_submitted_job, refuse_relative_paths

    if in_submitted_job():
        reason = "a submitted job runs in a temporary copy of the working directory"
        named = {
            "judge": config.judge.partition(":")[2] or config.judge,
            "language_model": config.language_model,
            "baseline": config.baseline,
            "prompts.source": config.prompts.source,
            "prompts.local": config.prompts.local,
        }
        paths = {key: [path] for key, path in named.items() if Path(path).exists()}
        refuse_relative_paths(paths, reason)


def main() -> None:
    from rayjobs.cli import main as job_main

    job_main(JOB, __doc__ or "", RECIPES, run)


if __name__ == "__main__":
    main()

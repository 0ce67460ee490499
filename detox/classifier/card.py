"""The model card of a trained classifier: a README.md with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from detox.classifier.evaluation import ClassifierEvaluation
from detox.classifier.report import NAMES, RunFacts
from detox.evaluation.report import format_cell

CLASSIFICATION_COLUMNS = ("roc_auc", "pr_auc", "precision@tuned", "recall@tuned", "f1@tuned", "ece")
REGRESSION_COLUMNS = ("mse", "mae", "r2", "spearman")


def model_card(
    evaluation: ClassifierEvaluation,
    facts: RunFacts,
    *,
    base_model: str,
    base_revision: str = "",
    max_length: int,
    languages: Sequence[str] = (),
    licence: str = "other",
) -> str:
    """README.md of the artifact.

    Args:
        base_model: name of the model that was fine-tuned.
        base_revision: its commit on the hub; empty for a model that is not of the hub.
        languages: ISO 639-1 codes of the training text; empty: not stated.
        licence: of the trained weights, a hub identifier such as `mit`; it may not be freer than the base model's.
    """
    regression = evaluation.task == "regression"
    figures = evaluation.test_figures()
    shown = [
        name
        for name in (REGRESSION_COLUMNS if regression else CLASSIFICATION_COLUMNS)
        if any(f"{name}/{label}" in figures for label in evaluation.labels)
    ]
    rows = [
        [
            choice.label,
            *(format_cell(figures.get(f"{name}/{choice.label}")) for name in shown),
            f"{choice.threshold:.4f}",
        ]
        for choice in evaluation.thresholds
    ]
    if len(evaluation.labels) > 1:
        rows.append(["macro", *(format_cell(figures.get(f"{name}/macro")) for name in shown), ""])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("detox.classifier"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown, not HTML
    )
    return environment.get_template("model_card.md").render(
        front_matter=_front_matter(
            evaluation, facts, figures, base_model if base_revision else None, languages, licence
        ),
        evaluation=evaluation,
        facts=facts,
        regression=regression,
        base_model=base_model,
        base_revision=base_revision,
        max_length=max_length,
        columns=[NAMES[name] for name in shown],
        rows=rows,
        legend=_legend(regression),
    )


def _front_matter(
    evaluation: ClassifierEvaluation,
    facts: RunFacts,
    figures: dict[str, float],
    base_model: str | None,
    languages: Sequence[str],
    licence: str,
) -> str:
    """YAML without its dashes. Only a base model of the hub is named there: the hub refuses any other."""
    sources = [str(source["name"]) for source in facts.dataset.get("sources", ()) if source.get("name")]
    metrics = ("mse", "mae", "spearman") if evaluation.task == "regression" else ("roc_auc", "f1@tuned")
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=sources[0] if sources else "unknown",
            dataset_name=sources[0] if sources else "unknown",
            dataset_split="test",
            metric_type=name.partition("@")[0],
            metric_value=round(figures[f"{name}/macro"], 4),
            metric_name=f"macro {NAMES[name]}",
        )
        for name in metrics
        if f"{name}/macro" in figures
    ]
    data = ModelCardData(
        language=list(languages) or None,
        license=licence,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["toxicity", "content-moderation", evaluation.task.replace("_", "-")],
        metrics=[name.partition("@")[0] for name in metrics],
        base_model=base_model,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _legend(regression: bool) -> str:
    if regression:
        return "Scores are compared with the annotators' on 0..1; Spearman compares their order."
    return (
        "Precision, recall and F1 at the tuned threshold; calibration error over 15 bins of equal width. A dash: the "
        "test rows hold one class only, so there is nothing to rank."
    )

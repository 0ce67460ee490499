"""The report of a trained classifier: what it does well, what badly, and how it came to be (S1 step 9, S3 section 9).

`classifier_report` composes a `detox.evaluation.report.Report`; the sections are functions from the evaluation to
blocks, in the order of the page.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detox.classifier.evaluation import BASELINE_NAME, ClassifierEvaluation
from detox.classifier.examples import Example, Kind, examples
from detox.classifier.explanation import Explanation
from detox.classifier.report_sections import (
    calibration_blocks,
    confusion_matrices,
    ranking_curves,
    score_scatter,
    threshold_choice,
    training_curves,
)
from detox.evaluation.masking import Mask, excerpt
from detox.evaluation.report import (
    Block,
    Callout,
    Cell,
    Code,
    HeatMap,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Tone,
    key_values,
)
from detox.runs.config import JobConfig
from detox.runs.rundir import RunDirectory
from detox.runs.tracking import read_metrics

ERRORS_SHOWN = 8
"""Sample errors of each kind."""
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "undecided": "warning"}


@dataclass(frozen=True)
class RunFacts:
    """What the run directory knows beside the predictions."""

    name: str
    command: str
    """The command line that makes this run again."""
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """`dataset.json` of the prepared data."""
    events: Sequence[Mapping[str, Any]] = ()
    """The lines of `metrics.jsonl`, oldest first."""
    masked_words: Sequence[str] = ()
    """Words that sample errors show as a letter and asterisks."""
    notices: Sequence[str] = ()
    """Sentences that every reader must see first, for example that the corpus is synthetic."""


def run_facts(
    run: RunDirectory, job: str, recipe: str, config: JobConfig, dataset: Mapping[str, Any], **more: Any
) -> RunFacts:
    """What a run's directory says, for its report.

    Args:
        dataset: facts of the prepared data, or pairs.
        more: `masked_words`, `notices`.
    """
    environment = run.read_json("environment.json")
    return RunFacts(
        name=run.name,
        command=f"python -m rayjobs.{job} {shlex.join(environment['argv'][1:]) or recipe}",
        config=config.model_dump(mode="json"),
        environment=environment | environment.get("worker", {}),
        dataset=dataset,
        events=read_metrics(run),
        **more,
    )


Explained = tuple[Example, Explanation]


def classifier_report(evaluation: ClassifierEvaluation, facts: RunFacts, explained: Sequence[Explained] = ()) -> Report:
    """The report's sections, ready to `render()`; `explained` are test rows with the words that made their scores."""
    report = Report(f"Toxicity classifier: {facts.name}", _subtitle(evaluation, facts))
    regression = evaluation.task == "regression"
    report.add("Result", *(Callout(notice, "warning") for notice in facts.notices), *_result(evaluation))
    if regression:
        report.add("Predicted and true scores", score_scatter(evaluation))
    else:
        report.add("Ranking", ranking_curves(evaluation))
    report.add("Decision threshold", *threshold_choice(evaluation))
    report.add("Confusion", confusion_matrices(evaluation))
    report.add("Calibration", *calibration_blocks(evaluation))
    report.add("Which words made the score", *_explanations(explained, facts.masked_words))
    report.add("Sample errors", *_sample_errors(evaluation, facts.masked_words))
    report.add("Training", training_curves(facts.events))
    report.add("Data", *data_blocks(facts.dataset))
    report.add("How to make it again", *reproduction_blocks(facts))
    return report


def _subtitle(evaluation: ClassifierEvaluation, facts: RunFacts) -> str:
    base = facts.config.get("model", {}).get("name", "")
    count = len(evaluation.labels)
    what = f"{count} label{'s' if count > 1 else ''}: {', '.join(evaluation.labels)}"
    return f"{base}, {what}" if base else what


def _result(evaluation: ClassifierEvaluation) -> list[Block | None]:
    headline = evaluation.headline()
    tone: Tone = TONES[headline.advantage.verdict] if headline else "neutral"
    test, baseline = evaluation.test_figures(), evaluation.baseline_figures()
    shown = (
        ("mse", "mae", "r2", "spearman")
        if evaluation.task == "regression"
        else ("roc_auc", "pr_auc", "f1@tuned", "ece")
    )
    tiles = [
        Tile(
            NAMES[name][0].upper() + NAMES[name][1:],
            f"{test[f'{name}/macro']:.4f}",
            _baseline_note(baseline.get(f"{name}/macro")),
        )
        for name in shown
        if f"{name}/macro" in test
    ]
    return [
        Callout(evaluation.verdict(), tone),
        Tiles(tiles) if tiles else None,
        _figures_table(evaluation, test, "The model on the test rows"),
        _figures_table(evaluation, baseline, f"{BASELINE_NAME} on the same rows") if baseline else None,
    ]


NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "precision@0.5": "precision at 0.5",
    "recall@0.5": "recall at 0.5",
    "f1@0.5": "F1 at 0.5",
    "precision@tuned": "precision, tuned",
    "recall@tuned": "recall, tuned",
    "f1@tuned": "F1, tuned threshold",
    "ece": "calibration error",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "spearman": "Spearman",
    "rows": "rows",
    "positives": "positives",
}


def _baseline_note(value: float | None) -> str:
    return "" if value is None else f"TF-IDF {value:.4f}"


def _figures_table(evaluation: ClassifierEvaluation, figures: Mapping[str, float], caption: str) -> Table:
    present = [name for name in NAMES if any(f"{name}/{label}" in figures for label in evaluation.labels)]
    lines = (*evaluation.labels, "macro") if len(evaluation.labels) > 1 else evaluation.labels
    rows: list[list[Cell]] = [[label, *(_figure(figures, name, label) for name in present)] for label in lines]
    left_out = [
        label for label in evaluation.labels if f"one_class/{label}" in figures or f"constant/{label}" in figures
    ]
    note = f"Left out of the macro average, since the test rows hold one class only: {', '.join(left_out)}."
    return Table(caption, ["label", *(NAMES[name] for name in present)], rows, note if left_out else "")


def _figure(figures: Mapping[str, float], name: str, label: str) -> Cell:
    value = figures.get(f"{name}/{label}")
    return int(value) if value is not None and name in {"rows", "positives"} else value


def _explanations(explained: Sequence[Explained], masked_words: Sequence[str]) -> list[Block]:
    """Comments with each word shaded by what it did to the score."""
    if not explained or not masked_words:
        return []
    mask = Mask(masked_words)
    note = (
        "Integrated gradients: orange words raised the score of the label, blue and dotted ones lowered it. "
        "`detox explain` makes such a picture of any text."
    )
    shown: list[Block] = [Text(note)]
    for example, explanation in explained:
        caption = f"{example.label}: {explanation.probability:.3f} ({example.kind})"
        shown.append(HeatMap(caption, [(mask(text), share) for text, _, share in explanation.pieces()]))
    return shown


def _sample_errors(evaluation: ClassifierEvaluation, masked_words: Sequence[str]) -> list[Block]:
    """The surest mistakes of each kind, over all labels. Without words to mask no comment is printed."""
    if not masked_words:
        return [Text("Comments are left out, since there is no list of words to mask: the baseline provides one.")]
    mask = Mask(masked_words)
    tables: list[Block] = []
    kinds: tuple[Kind, ...] = ("flagged, and should not be", "missed")
    for kind in kinds:
        found = examples(evaluation, kind)
        rows: list[list[Cell]] = [
            [label, value, excerpt(mask(evaluation.test_texts[row]))] for _, value, row, label in found[:ERRORS_SHOWN]
        ]
        if rows:
            tables.append(
                Table(f"{kind.capitalize()}: the surest of {len(found):,}", ["label", "probability", "comment"], rows)
            )
    note = "Offensive words are masked. Some of these are mistakes of the labels rather than of the model."
    return [Text(note), *tables] if tables else []


def data_blocks(dataset: Mapping[str, Any]) -> list[Block | None]:
    if not dataset:
        return []
    sources = [[str(s.get(key, "")) for key in ("name", "licence", "revision")] for s in dataset.get("sources", ())]
    return [
        key_values("Rows of each part", ("part", "rows"), dataset["rows"]),
        Table("Sources", ["source", "licence", "revision"], sources) if sources else None,
        key_values("Rows that each rule touched", ("rule", "rows"), dataset["rules"]) if dataset.get("rules") else None,
        Text("The data card (README.md beside the data) gives every cleaning decision with its counts."),
    ]


def reproduction_blocks(facts: RunFacts) -> list[Block | None]:
    packages = facts.environment.get("packages", {})
    machine = {
        key: str(facts.environment[key]) for key in ("python", "platform", "cpus", "gpus") if key in facts.environment
    }
    commit = facts.environment.get("git", {}).get("commit")
    return [
        Code("Command", facts.command),
        key_values("Environment", ("what", "version"), machine | ({"commit": commit} if commit else {}) | packages)
        if facts.environment
        else None,
        Code("Full config", json.dumps(facts.config, indent=2, ensure_ascii=False), folded=True)
        if facts.config
        else None,
    ]

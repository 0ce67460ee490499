"""Any scorer on labelled comments: a trained run, Detoxify, a service that runs. The figures of training, and a page.

Shapes: N texts, L labels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from detox.classifier.measuring_settings import EvaluateScorerConfig, scorer_name
from detox.classifier.metrics import classification_metrics
from detox.classifier.report import run_facts
from detox.classifier.scorer import Scorer, load_scorer
from detox.data.prepared import PARTS, PreparedData
from detox.evaluation.report import Callout, Code, Report, Table
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

SHOWN = ("roc_auc", "pr_auc", "f1@0.5", "f1@tuned", "precision@tuned", "recall@tuned", "ece")


def measure(config: EvaluateScorerConfig, recipe: str, run: RunDirectory, prepared: Storage) -> None:
    """Write `summary.json` and `report.html`.

    Raises:
        ValueError: the scorer has none of the data's labels, or a service that does not answer.
    """
    scorer = load_scorer(scorer_name(config))
    with tempfile.TemporaryDirectory(prefix="detox-data-") as scratch:
        data = PreparedData.open(prepared.localise(Path(scratch)))
        found, rows = figures(scorer, data, all_rows=config.all_rows)
        facts = run_facts(run, "evaluate", recipe, config, data.facts)
    labels = shared_labels(scorer, data.labels)
    name = getattr(scorer, "model", "") or scorer_name(config)
    auc = found.get("roc_auc/macro")
    verdict = f"macro ROC-AUC {auc:.4f}" if auc is not None else "no label has rows of both classes, so no ROC-AUC"
    headline = f"{name}: {verdict} on {rows:,} texts ({', '.join(labels)})."
    report = Report(f"Scorer: {name}", f"{rows:,} texts, {len(labels)} labels")
    report.add("Result", Callout(headline))
    if absent := [label for label in data.labels if label not in labels]:
        report.add("Not measured", Callout(f"The scorer has no label {', '.join(absent)}.", "warning"))
    table = [(label, *(found.get(f"{figure}/{label}") for figure in SHOWN)) for label in (*labels, "macro")]
    report.add("All figures", Table("By label", ("label", *SHOWN), table))
    report.add("How to make it again", Code("Command", facts.command))
    run.storage.write_text("report.html", report.render())
    run.write_json("summary.json", {"headline": headline, "texts": rows} | found)


def figures(scorer: Scorer, data: PreparedData, *, all_rows: bool) -> tuple[dict[str, float], int]:
    """Figures of the labels that scorer and data share (`classification_metrics`; `tuned` are the scorer's own
    thresholds), and on how many texts."""
    labels = shared_labels(scorer, data.labels)
    parts = [data.part(name) for name in (PARTS if all_rows else ("test",))]
    texts = [text for part in parts for text in part.texts]
    columns = [data.labels.index(label) for label in labels]
    targets_NL = np.concatenate([part.labels_NL[:, columns] for part in parts])
    scores = scorer.score(texts)
    probabilities_NL = np.stack([scores.column(label) for label in labels], axis=1)
    thresholds: Any = getattr(scorer, "thresholds", {})
    return classification_metrics(
        probabilities_NL, targets_NL, labels, [thresholds.get(label, 0.5) for label in labels]
    ), len(texts)


def shared_labels(scorer: Scorer, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Raises:
    ValueError: there is none.
    """
    found = tuple(label for label in labels if label in scorer.labels)
    if not found:
        raise ValueError(
            f"the data have the labels {', '.join(labels)}, and the scorer {', '.join(scorer.labels)}: name columns as "
            "the scorer names its labels"
        )
    return found

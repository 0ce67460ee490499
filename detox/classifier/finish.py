"""From the best checkpoint to everything that a run leaves behind.

Calibrates and tunes on the validation part, measures on the test part beside the TF-IDF baseline, and writes
`artifact/` (model, tokenizer, thresholds, cleaning, model card, signed manifest), `baseline/`, `submission.csv` where
one is asked for, `summary.json` and `report.html`.

Shapes: N rows, L labels.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from detox.classifier.calibration import Temperature, calibrated, fit_temperatures, fold_temperature
from detox.classifier.card import model_card
from detox.classifier.engine import Engine
from detox.classifier.evaluation import ClassifierEvaluation
from detox.classifier.examples import to_explain
from detox.classifier.explain import explain
from detox.classifier.model_scorers import ARTIFACT, TransformerScorer, load_artifact, model_parent
from detox.classifier.report import Explained, RunFacts, classifier_report, run_facts
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.submission import write_submission
from detox.classifier.tfidf import TfidfScorer
from detox.classifier.thresholds import tune_thresholds
from detox.classifier.worker import load_for_training
from detox.data.prepared import Part, PreparedData
from detox.governance.manifest import describe
from detox.models.loading import LoadedModel
from detox.runs.config import digest, identity
from detox.runs.environment import with_worker
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

SYNTHETIC_NOTICE = (
    "The comments of this run are synthetic, written by templates for the demo. Its figures show that the machinery "
    "works and say nothing about real comments."
)


def finish(
    config: TrainClassifierConfig, recipe: str, run_uri: str, data_uri: str, checkpoint_uri: str
) -> dict[str, dict[str, Any]]:
    """Evaluate the best checkpoint and write the artifact and the report.

    Returns:
        the descriptions of `artifact` and `baseline` for their manifests, which the caller signs: a worker node has
        another key.

    Raises:
        ManifestError: the base model has a manifest that does not hold here.
    """
    run = RunDirectory(Storage(run_uri))
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    with tempfile.TemporaryDirectory(prefix="detox-finish-") as scratch:
        folder = Path(scratch)
        data = PreparedData.open(Storage(data_uri).localise(folder))
        base = load_for_training(config, data)
        parent = model_parent(base.name, base.revision, config.run.seed)
        checkpoint = Storage(checkpoint_uri).localise(folder)
        # in full precision: ZeRO's checkpoints are bf16 where training was, and the artifact is used in fp32
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
        baseline = _baseline(config, data) if config.baseline else None
        evaluation = evaluate(config, model, base, data, baseline)
        facts = run_facts(
            run,
            "train_classifier",
            recipe,
            config,
            data.facts,
            masked_words=baseline.telling_words() if baseline else (),
            notices=(SYNTHETIC_NOTICE,) if "synthetic" in config.data.source else (),
        )
        artifact = write_artifact(config, folder / "artifact", model, base, data, evaluation, facts)
        made = {"artifact": artifact}
        if baseline is not None:
            baseline.save(folder / "baseline")
            made["baseline"] = folder / "baseline"
        origin = {"run": run.name, "job": "train_classifier", "config_sha256": digest(identity(config))}
        source = {"name": "data", "digest": data.digest, "classification": data.facts["classification"]}
        descriptions = {
            name: describe(path, origin, [source, parent] if name == "artifact" else [source])
            for name, path in made.items()
        }
        for name, path in made.items():
            run.storage.upload(path, name)
        if config.submission:
            write_submission(load_artifact(artifact), Path(config.submission), folder / "submission.csv")
            run.storage.write_text("submission.csv", (folder / "submission.csv").read_text(encoding="utf-8"))
        explained = explain_examples(load_artifact(artifact), evaluation)
    run.storage.write_text("report.html", classifier_report(evaluation, facts, explained).render())
    summary = evaluation.summary() | {"headline": evaluation.verdict(), "data": data_uri}
    run.write_json("summary.json", summary)
    return descriptions


def _baseline(config: TrainClassifierConfig, data: PreparedData) -> TfidfScorer:
    train = data.part("train")
    return TfidfScorer.fit(train.texts, train.labels_NL, data.labels, config.run.seed, task=config.task)


def evaluate(
    config: TrainClassifierConfig,
    model: PreTrainedModel,
    base: LoadedModel,
    data: PreparedData,
    baseline: TfidfScorer | None,
) -> ClassifierEvaluation:
    """Calibrate and tune on validation, predict the test part; afterwards the model holds its temperatures.

    Texts longer than `model.max_length` are scored by windows, as they are when the model is used.
    """
    engine = Engine(model, base.tokenizer, max_length=config.model.max_length)
    validation, test = (labelled(data.part(name)) for name in ("validation", "test"))
    validation_logits_NL, test_logits_NL = (_logits(engine, part.texts) for part in (validation, test))
    temperatures: tuple[Temperature, ...] = ()
    if config.task == "multi_label":
        temperatures = fit_temperatures(validation_logits_NL, validation.labels_NL, data.labels)
        fold_temperature(model, [fit.value for fit in temperatures])
    temperature_L = [fit.value for fit in temperatures] or [1.0] * len(data.labels)
    probabilities_NL = calibrated(validation_logits_NL, temperature_L)
    return ClassifierEvaluation(
        task=config.task,
        labels=data.labels,
        test_texts=test.texts,
        test_targets_NL=test.labels_NL,
        test_uncalibrated_NL=calibrated(test_logits_NL, [1.0] * len(data.labels)),
        test_probabilities_NL=calibrated(test_logits_NL, temperature_L),
        validation_targets_ML=validation.labels_NL,
        validation_probabilities_ML=probabilities_NL,
        thresholds=tune_thresholds(probabilities_NL, validation.labels_NL, data.labels),
        temperatures=temperatures,
        baseline_NL=baseline.score(test.texts).values_NL if baseline else None,
        baseline_thresholds=tune_thresholds(
            baseline.score(validation.texts).values_NL, validation.labels_NL, data.labels
        )
        if baseline
        else (),
    )


def explain_examples(scorer: TransformerScorer, evaluation: ClassifierEvaluation) -> list[Explained]:
    """The words behind the scores of telling test rows."""
    return [
        (example, explain(scorer, evaluation.test_texts[example.row], example.label))
        for example in to_explain(evaluation)
    ]


def labelled(part: Part) -> Part:
    """The rows that state at least one label: Jigsaw's official test has 89,186 that state none."""
    rows = np.flatnonzero(~np.isnan(part.labels_NL).all(axis=1))
    return Part(part.rows_N[rows], [part.texts[row] for row in rows], part.labels_NL[rows])


def _logits(engine: Engine, texts: list[str]) -> np.ndarray:
    """Logits `[N, L]` of windowed scores. The maximum over windows commutes with the sigmoid; beyond 16 in either
    direction float32 probabilities tell nothing apart."""
    probabilities_NL = np.clip(engine.probabilities(texts).astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(probabilities_NL / (1 - probabilities_NL))


def write_artifact(
    config: TrainClassifierConfig,
    folder: Path,
    model: PreTrainedModel,
    base: LoadedModel,
    data: PreparedData,
    evaluation: ClassifierEvaluation,
    facts: RunFacts,
) -> Path:
    """The artifact's folder: Hugging Face layout, `detox.json`, model card."""
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    described = {
        "kind": "classifier",
        "task": config.task,
        "labels": list(data.labels),
        "thresholds": {choice.label: choice.threshold for choice in evaluation.thresholds},
        "temperature": {fit.label: fit.value for fit in evaluation.temperatures},
        "max_length": config.model.max_length,
        "cleaning": data.facts["cleaning"],  # a prepared folder may have had another than the config names
        "base_model": base.name,
        "base_revision": base.revision,
    }
    (folder / ARTIFACT).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    card = model_card(
        evaluation,
        facts,
        base_model=base.name,
        base_revision=base.revision,
        max_length=config.model.max_length,
        languages=data.facts["cleaning"]["languages"],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder

"""Untrained models on disk, signed, as a run leaves them."""

from __future__ import annotations

import json
from pathlib import Path

from detox.data.settings import CleaningSettings
from detox.governance.manifest import write_manifest
from detox.models import tiny

LABELS = ("toxic", "threat", "insult")
TEXTS = ["you are an idiot", "thank you for the page", "", "no 😀 way, Günther", "stupid " * 200]


def write_classifier(folder: Path, seed: int = 0, classification: str = "open", architecture: str = "bert") -> Path:
    """A run directory `folder` with a signed `artifact/`; returns `folder`."""
    artifact = folder / "artifact"
    options = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: number for number, label in enumerate(LABELS)},
        "initializer_range": 0.2,
        "problem_type": "multi_label_classification",
    }
    tiny.write_checkpoint(architecture, artifact, head="sequence_classification", seed=seed, **options)
    facts = {
        "kind": "classifier",
        "task": "multi_label",
        "labels": LABELS,
        "thresholds": {"toxic": 0.5, "threat": 0.45, "insult": 0.55},
        "temperature": dict.fromkeys(LABELS, 1.0),
        "max_length": 64,
        "cleaning": CleaningSettings(languages=()).model_dump(mode="json"),
        "base_model": f"tiny/{architecture}",
        "base_revision": "",
    }
    (artifact / "detox.json").write_text(json.dumps(facts))
    write_manifest(artifact, {"job": "train_classifier"}, classification=classification)
    return folder

"""Scorers over a neural model: a run of ours, or any sequence classifier in Hugging Face layout; and what such a model
passes on to what is trained from it.

Shapes: N texts, L labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from detox.classifier.engine import CHUNK, Activation, Engine
from detox.classifier.scorer import Scores
from detox.data.settings import CleaningSettings
from detox.governance.manifest import file_digests, verified
from detox.models.embedded import MINILM_SHA256
from detox.models.loading import Dtype, LoadedModel, load_sequence_classifier, local_folder
from detox.runs.config import digest, validated

ARTIFACT = "detox.json"
"""What an artifact of ours carries beside the Hugging Face files: labels, thresholds, cleaning, window length."""


def valid_unicode(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer takes, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


class TransformerScorer:
    """A sequence classifier behind the `Scorer` protocol.

    Attributes:
        labels: of the columns.
        thresholds: by label, from which a score counts as a hit; 0.5 unless the artifact says otherwise.
        engine: the batched model.
        clean: what is done to a text before it is tokenised.
    """

    def __init__(
        self,
        engine: Engine,
        labels: Sequence[str],
        *,
        thresholds: Mapping[str, float] | None = None,
        clean: Callable[[str], str] = valid_unicode,
    ) -> None:
        self.engine = engine
        self.labels = tuple(labels)
        self.thresholds = dict.fromkeys(self.labels, 0.5) | dict(thresholds or {})
        self.clean = clean

    def score(self, texts: Sequence[str]) -> Scores:
        """Scores after cleaning.

        Raises:
            ValueError: the model returned NaN.
        """
        chunks = (texts[begin : begin + CHUNK] for begin in range(0, len(texts), CHUNK))
        parts = [self.engine.probabilities([self.clean(text) for text in chunk]) for chunk in chunks]
        return Scores(self.labels, np.concatenate([np.zeros((0, len(self.labels)), np.float32), *parts]))


def load_model_scorer(name: str, *, device: str = "", dtype: str = "float32") -> TransformerScorer:
    """A run directory, an artifact folder, a folder in Hugging Face layout, `tiny/…`, or `owner/name@revision`.

    Raises:
        ValueError: the name leads to no classifier, or the manifest beside it does not hold.
    """
    folder = None if name.startswith(("tiny/", "embedded/")) else local_folder(name)
    if folder is not None and (folder / ARTIFACT).is_file():
        return load_artifact(folder, device=device, dtype=dtype)
    return hub_scorer(load_sequence_classifier(name, dtype=cast(Dtype, dtype)), device=device)


def load_artifact(folder: Path, *, device: str = "", dtype: str = "float32") -> TransformerScorer:
    """A classifier that a run of ours wrote, with its own cleaning, thresholds and window length.

    Where a manifest lies in the folder, or in the run directory above it, it must hold.

    Raises:
        ValueError: not a classifier's artifact, or a manifest that does not hold.
    """
    from detox.data.cleaning import clean_text  # ftfy and lingua, which other scorers do without

    verified(folder)
    facts = json.loads((folder / ARTIFACT).read_text(encoding="utf-8"))
    if facts["kind"] != "classifier":
        raise ValueError(f"{folder} is a {facts['kind']}, and scoring needs a classifier: name another run")
    loaded = load_sequence_classifier(str(folder), dtype=cast(Dtype, dtype))
    settings = validated(CleaningSettings, facts["cleaning"])
    return TransformerScorer(
        Engine(loaded.model, loaded.tokenizer, max_length=facts["max_length"], device=device),
        facts["labels"],
        thresholds=facts["thresholds"],
        clean=lambda text: clean_text(text, settings),
    )


def model_parent(name: str, revision: str = "", seed: int = 0) -> dict[str, str]:
    """How a base model stands among the parents of a manifest: `name`, `digest`, `classification`.

    The digest is the commit of a hub model, that of the weights of `embedded/minilm`, and that of its files for a
    folder; the weights of `tiny/…` follow from its name, the seed and the data. A folder has the class of its manifest,
    any other model is open.

    Args:
        name: as `load_sequence_classifier` takes it.
        revision: commit of a hub model; empty for any other.
        seed: of the weights of a `tiny/…` model.

    Raises:
        ValueError: a folder that holds no model, or beside whose model lies a manifest that does not hold.
    """
    manifest: Mapping[str, Any] = {}
    if revision:
        found = revision
    elif name == "embedded/minilm":
        found = MINILM_SHA256
    elif name.startswith("tiny/") or (folder := local_folder(name)) is None:
        found = digest({"name": name, "seed": seed})
    else:
        manifest = verified(folder)
        found = digest(file_digests(folder))
    return {"name": name, "digest": found, "classification": manifest.get("classification", "open")}


def hub_scorer(loaded: LoadedModel, *, device: str = "") -> TransformerScorer:
    """Any sequence classifier, its probabilities as a plain `pipeline("text-classification")` gives them.

    Raises:
        ValueError: the model's outputs are no probabilities (`problem_type` "regression").
    """
    config: Any = loaded.model.config
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    return TransformerScorer(
        Engine(loaded.model, loaded.tokenizer, activation=activation_of(config), device=device), labels
    )


def activation_of(config: Any) -> Activation:
    """Sigmoid for a multi-label head or a single output, else softmax.

    Raises:
        ValueError: a regression head, whose outputs have no fixed range.
    """
    if config.problem_type == "regression":
        raise ValueError(
            f"{config._name_or_path} is a regression model, whose outputs are no probabilities: name a classifier"
        )
    return "sigmoid" if config.problem_type == "multi_label_classification" or config.num_labels == 1 else "softmax"

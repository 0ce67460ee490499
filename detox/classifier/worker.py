"""What one training worker does, from a prepared folder to the Trainer's outcome. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from detox.classifier.batching import TokenisedRows
from detox.classifier.engine import window_length
from detox.classifier.losses import build_loss
from detox.classifier.metrics import classification_metrics, regression_metrics
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.submission import check_submission
from detox.classifier.training import LabelledRows, train
from detox.data.prepared import PARTS, Part, PreparedData
from detox.models.loading import LoadedModel, check_available, load_sequence_classifier

TOKENISE_AT_ONCE = 4096
"""Texts a tokenizer call: enough for its threads, little memory."""


class Place(NamedTuple):
    """Where this worker stands among the others, and what it may write to."""

    rank: int
    ranks: int
    scratch: Path
    """An empty local folder of this worker's own."""


def train_one_rank(
    config: TrainClassifierConfig,
    data: PreparedData,
    place: Place,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: Path | None = None,
) -> dict[str, float]:
    """Load, tokenise and train on one rank.

    Returns:
        `steps`, `best_step`, `best_metric`.

    Raises:
        ValueError: `model.max_length` beyond what model and tokenizer read.
    """
    torch.set_num_threads(config.scaling.threads_per_worker)
    set_seed(config.run.seed)
    loaded = load_for_training(config, data)
    window_length(loaded.model.config, config.model.max_length, loaded.tokenizer)
    parts = [labelled_rows(data.part(name), loaded.tokenizer, config) for name in ("train", "validation")]
    return train(
        config,
        loaded.model,
        data.labels,
        parts[0],
        parts[1],
        pad_id=_pad_id(loaded.tokenizer),
        scratch=place.scratch,
        callbacks=callbacks,
        resume_from=resume_from,
        ranks=place.ranks,
    )


def check_config(config: TrainClassifierConfig, labels: Sequence[str]) -> None:
    """Refuse what would train in vain, before any data are prepared.

    Args:
        labels: of the data to come.

    Raises:
        ValueError: no label, or several for a regressor; a model name that leads nowhere; more tokens a comment than
            that model reads; a submission that the labels or the file do not allow.
        FileNotFoundError: no file to write a submission for.
    """
    if not labels:
        raise ValueError("the data have no label to learn: name their columns with --data.label-columns")
    if config.task == "regression" and len(labels) != 1:
        raise ValueError(
            f"a regressor learns one label, and the data has {', '.join(labels)}: choose with --data.label-columns"
        )
    if config.submission:
        check_submission(labels, Path(config.submission))
    window_length(check_available(config.model.name), config.model.max_length)


def check_trainable(config: TrainClassifierConfig, data: PreparedData) -> None:
    """Refuse data on which this config would train in vain.

    Raises:
        ValueError: a part without labelled rows; no label with both classes in the train or the validation part; a
            figure to stop by that the validation part does not give; weights for a label without a positive row.
    """
    parts = {name: data.part(name).labels_NL for name in PARTS}
    for name, labels_NL in parts.items():
        if np.isnan(labels_NL).all():
            raise ValueError(
                f"the {name} part has no labelled row: give it a share with --data.split.ratios, or more data"
            )
    if config.task == "multi_label":
        for name in ("train", "validation"):
            _check_classes(name, parts[name])
    build_loss(config.loss, parts["train"], data.labels)
    _check_metric(config, parts["validation"], data.labels)


def _check_classes(name: str, labels_NL: np.ndarray) -> None:
    if not ((labels_NL >= 0.5).any(axis=0) & (labels_NL < 0.5).any(axis=0)).any():
        raise ValueError(
            f"no label has both classes in the {name} part ({len(labels_NL):,} rows): give more data, or check "
            f"--data.label-columns"
        )


def _check_metric(config: TrainClassifierConfig, labels_NL: np.ndarray, labels: Sequence[str]) -> None:
    """Figures of made-up predictions have the names that the model's will have."""
    measure = regression_metrics if config.task == "regression" else classification_metrics
    rising_NL = np.repeat(np.linspace(0, 1, len(labels_NL))[:, None], len(labels), axis=1)
    names = {"loss", *measure(rising_NL, labels_NL, labels)}
    if config.stopping.metric not in names:
        macros = sorted(name for name in names if name.endswith("/macro"))
        raise ValueError(
            f"the validation part gives no figure {config.stopping.metric!r} to choose the best checkpoint by: set "
            f"--stopping.metric to one of {', '.join(['loss', *macros])}, or to that of a label"
        )


def load_for_training(config: TrainClassifierConfig, data: PreparedData) -> LoadedModel:
    """The base model with a new head for the data's labels; the same on every rank and after every restart."""
    name, seed = config.model.name, config.run.seed
    if not name.startswith("tiny/"):
        return load_sequence_classifier(name, data.labels, config.task, seed=seed)
    texts = data.part("train").texts[:2000]  # a tiny model's tokenizer is trained on the spot
    return load_sequence_classifier(name, data.labels, config.task, texts_for_tokenizer=texts, seed=seed)


def labelled_rows(part: Part, tokenizer: PreTrainedTokenizerBase, config: TrainClassifierConfig) -> LabelledRows:
    """A part's token ids, cut at `model.max_length`, with its labels. Rows without any label are left out."""
    labelled = np.flatnonzero(~np.isnan(part.labels_NL).all(axis=1))
    texts = [part.texts[row] for row in labelled]
    return LabelledRows(tokenise(texts, tokenizer, config.model.max_length), part.labels_NL[labelled])


def tokenise(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenisedRows:
    """Token ids with special tokens, each text cut at `max_length`."""
    chunks = (list(texts[first : first + TOKENISE_AT_ONCE]) for first in range(0, len(texts), TOKENISE_AT_ONCE))
    return TokenisedRows.join(
        TokenisedRows.of(tokenizer(chunk, truncation=True, max_length=max_length)["input_ids"]) for chunk in chunks
    )


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    assert isinstance(tokenizer.pad_token_id, int), "load_sequence_classifier gives every tokenizer a padding token"
    return tokenizer.pad_token_id

"""Losses of the classifier: pure functions that return one value a row.

The caller divides the sum by the number of rows of the *global* batch, so a full batch equals the sum of its
micro-batches and of its ranks. A row's loss is the sum over its labels divided by L, as in `BCEWithLogitsLoss` with
its mean; a missing label (NaN) adds nothing, and takes nothing from the weight of the labels that are there.
Losses are float32 whatever the logits are.

Shapes: N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from detox.classifier.loss_settings import LossSettings

Loss = Callable[[Tensor, Tensor], Tensor]
"""`(logits_NL, targets_NL) -> losses_N`."""


def bce(
    logits_NL: Tensor,
    targets_NL: Tensor,
    label_weights_L: Tensor | None = None,
    positive_weights_L: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of each row `[N]`.

    Args:
        targets_NL: 0..1, fractions allowed, NaN where missing.
        label_weights_L: factor of each label (S3 section 4: `label_weights`).
        positive_weights_L: factor of each label's positive term, as `pos_weight` in torch.
    """
    logits_NL, filled_NL, known_NL = _prepare(logits_NL, targets_NL)
    weights = None if positive_weights_L is None else positive_weights_L.to(logits_NL)
    losses_NL = binary_cross_entropy_with_logits(logits_NL, filled_NL, pos_weight=weights, reduction="none")
    return _row_mean(losses_NL, known_NL, label_weights_L)


def focal(logits_NL: Tensor, targets_NL: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of each row `[N]`: cross-entropy times |target - probability|^gamma.

    With 0/1 targets that is Lin et al. 2017's (1 - p_t)^gamma, with fractions Li et al. 2020's quality focal loss.
    """
    logits_NL, filled_NL, known_NL = _prepare(logits_NL, targets_NL)
    losses_NL = binary_cross_entropy_with_logits(logits_NL, filled_NL, reduction="none")
    distance_NL = (filled_NL - logits_NL.sigmoid()).abs()
    return _row_mean(distance_NL**gamma * losses_NL, known_NL)


def mse(logits_NL: Tensor, targets_NL: Tensor) -> Tensor:
    """Squared error of each row `[N]` between sigmoid(logit) and a target in 0..1 (S1 step 7)."""
    logits_NL, filled_NL, known_NL = _prepare(logits_NL, targets_NL)
    return _row_mean((logits_NL.sigmoid() - filled_NL) ** 2, known_NL)


def _prepare(logits_NL: Tensor, targets_NL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both in float32 (a mean of bf16 losses keeps two digits), targets without NaN, and where they are known."""
    known_NL = ~targets_NL.isnan()
    return logits_NL.float(), torch.where(known_NL, targets_NL, 0.0).float(), known_NL


def _row_mean(losses_NL: Tensor, known_NL: Tensor, weights_L: Tensor | None = None) -> Tensor:
    if weights_L is not None:
        losses_NL = losses_NL * weights_L.to(losses_NL)
    return torch.where(known_NL, losses_NL, 0.0).mean(dim=1)


def label_weights(labels_NL: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """S3 section 4's weight of each label `[L]`: 1 / (frequency + 1e-6), scaled so that the weights sum to L.

    It weighs labels against each other, not positives against negatives. Frequencies are taken over the rows that
    state the label.

    Raises:
        ValueError: a label without a positive row, which would take the whole weight.
    """
    frequency_L = _frequencies(labels_NL, labels)
    weights_L = 1 / (frequency_L + 1e-6)
    return (weights_L / weights_L.sum() * len(labels)).astype(np.float32)


def positive_weights(labels_NL: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Negatives over positives of each label `[L]`, over the rows that state it.

    Raises:
        ValueError: a label without a positive row.
    """
    frequency_L = _frequencies(labels_NL, labels)
    return ((1 - frequency_L) / frequency_L).astype(np.float32)


def _frequencies(labels_NL: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    known_L = np.maximum((~np.isnan(labels_NL)).sum(axis=0), 1)
    frequency_L = np.nansum(labels_NL, axis=0, dtype=np.float64) / known_L
    empty = [label for label, frequency in zip(labels, frequency_L, strict=True) if frequency == 0]
    if empty:
        raise ValueError(
            f"a weighted loss needs a positive training row of every label, and there is none of {', '.join(empty)}: "
            "leave these labels out (--data.label-columns) or train on --loss.name bce"
        )
    return frequency_L


def build_loss(settings: LossSettings, train_labels_NL: np.ndarray, labels: Sequence[str]) -> Loss:
    """The loss that `settings` names, with its weights counted on the training rows; it pickles.

    Raises:
        ValueError: weights are wanted, and a label has no positive training row.
    """
    if settings.name == "mse":
        return mse
    if settings.name == "focal":
        return partial(focal, gamma=settings.focal_gamma)
    by_label = torch.from_numpy(label_weights(train_labels_NL, labels)) if settings.name == "weighted_bce" else None
    positives = torch.from_numpy(positive_weights(train_labels_NL, labels)) if settings.balance_positives else None
    return partial(bce, label_weights_L=by_label, positive_weights_L=positives)

"""Probabilities that mean what they say: temperature scaling a label, and how far off they are (Guo et al. 2017).

Targets are taken as they are: with fractional labels a calibrated probability is the expected share of annotators.

Shapes: N rows, L labels, B bins that hold rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

if TYPE_CHECKING:
    from torch import nn

TEMPERATURE_RANGE = (0.05, 20.0)
SPREAD = 0.5
"""How far from 1 a temperature is expected, as the standard deviation of its logarithm. Without that expectation a
label whose few validation rows the model tells apart without a mistake would get the least temperature there is, and
claim certainty; with many rows it counts for nothing."""
"""Beyond these a temperature is a sign of too few rows, not of confidence."""


class Reliability(NamedTuple):
    """The reliability curve of one label: a point a bin that holds rows."""

    confidence: np.ndarray
    """`[B]`, mean probability of the bin's rows, 0..1."""
    frequency: np.ndarray
    """`[B]`, mean target of the bin's rows, 0..1."""
    rows: np.ndarray
    """`[B]`, rows in the bin."""


class Temperature(NamedTuple):
    """The temperature of one label and what it does to the cross-entropy (nats a row)."""

    label: str
    value: float
    nll_before: float
    nll_after: float
    fitted: bool
    """False: the validation rows hold one class only, so the temperature stays 1."""


def reliability(probabilities_N: np.ndarray, targets_N: np.ndarray, bins: int = 15) -> Reliability:
    """Reliability curve in equal-width bins of 0..1, as in Guo et al. 2017; rows with a missing target left out."""
    known_N = ~np.isnan(targets_N)
    probabilities_K = probabilities_N[known_N].astype(np.float64)
    targets_K = targets_N[known_N].astype(np.float64)
    bin_K = np.minimum((probabilities_K * bins).astype(int), bins - 1)
    count = np.bincount(bin_K, minlength=bins)
    used = count > 0
    confidence = np.bincount(bin_K, weights=probabilities_K, minlength=bins)[used] / count[used]
    frequency = np.bincount(bin_K, weights=targets_K, minlength=bins)[used] / count[used]
    return Reliability(confidence, frequency, count[used])


def expected_calibration_error(probabilities_N: np.ndarray, targets_N: np.ndarray, bins: int = 15) -> float:
    """ECE in 0..1: mean over rows of |probability - frequency| of their bin (Guo et al. 2017, equation 3).

    Guo et al. bin the confidence of the predicted class; here, as each label is a question of its own, the
    probability of the label is binned. NaN where no row states the label.
    """
    curve = reliability(probabilities_N, targets_N, bins)
    if not len(curve.rows):
        return float("nan")
    gaps_B = np.abs(curve.confidence - curve.frequency)
    return float(np.average(gaps_B, weights=curve.rows))


def negative_log_likelihood(logits_N: np.ndarray, targets_N: np.ndarray, temperature: float = 1.0) -> float:
    """Mean binary cross-entropy in nats of sigmoid(logits / temperature), fractions allowed."""
    scaled_N = logits_N.astype(np.float64) / temperature
    return float(np.mean(np.logaddexp(0, scaled_N) - targets_N * scaled_N))


def fit_temperatures(logits_NL: np.ndarray, targets_NL: np.ndarray, labels: Sequence[str]) -> tuple[Temperature, ...]:
    """The likeliest temperature of each label given its validation rows and a normal prior on its logarithm (mean 0,
    deviation `SPREAD`), within 0.05..20."""
    return tuple(
        _fit_temperature(label, logits_NL[:, column], targets_NL[:, column]) for column, label in enumerate(labels)
    )


def _fit_temperature(label: str, logits_N: np.ndarray, targets_N: np.ndarray) -> Temperature:
    known_N = ~np.isnan(targets_N)
    logits_K, targets_K = logits_N[known_N], targets_N[known_N].astype(np.float64)
    if not len(targets_K):
        return Temperature(label, 1.0, float("nan"), float("nan"), fitted=False)
    before = negative_log_likelihood(logits_K, targets_K)
    if (targets_K >= 0.5).all() or (targets_K < 0.5).all():
        return Temperature(label, 1.0, before, before, fitted=False)

    def loss(log_t: float) -> float:
        """In nats, all rows together; 0.05 and 20 lie evenly about log 1."""
        return len(targets_K) * negative_log_likelihood(logits_K, targets_K, np.exp(log_t)) + log_t**2 / (2 * SPREAD**2)

    found = minimize_scalar(
        loss,
        bounds=np.log(TEMPERATURE_RANGE),
        method="bounded",
    )
    value = float(np.clip(np.exp(found.x), *TEMPERATURE_RANGE))
    after = negative_log_likelihood(logits_K, targets_K, value)
    return Temperature(label, value, before, after, fitted=True)


def calibrated(logits_NL: np.ndarray, temperature_L: Sequence[float]) -> np.ndarray:
    """Probabilities `[N, L]`, float32: sigmoid(logits / temperature)."""
    return expit(logits_NL.astype(np.float64) / np.asarray(temperature_L)).astype(np.float32)


def fold_temperature(model: nn.Module, temperature_L: Sequence[float]) -> None:
    """Divide the last linear layer of a Hugging Face sequence classifier by each label's temperature, in place.

    Afterwards sigmoid(logits) of the stored model is the calibrated probability, whoever loads it.

    Args:
        model: BERT, DeBERTa, RoBERTa, XLM-R, DistilBERT … `ForSequenceClassification`: the last `nn.Linear` with one
            output a label is the one whose outputs are the logits.

    Raises:
        ValueError: no such layer, or a temperature that is not above 0.
    """
    import torch
    from torch import nn

    wrong = [value for value in temperature_L if not value > 0]
    if wrong:
        raise ValueError(f"a temperature must be above 0, got {wrong}: fit it with fit_temperatures")
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(temperature_L)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with {len(temperature_L)} outputs to fold the temperatures "
            "into: give one temperature a label of the model"
        )
    head = layers[-1]
    divisor_L = torch.tensor(temperature_L, dtype=head.weight.dtype, device=head.weight.device)
    with torch.no_grad():
        head.weight.div_(divisor_L[:, None])
        if head.bias is not None:
            head.bias.div_(divisor_L)

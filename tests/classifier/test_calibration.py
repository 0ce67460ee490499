"""Temperature, calibration error, and the fold into a model's last layer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from detox.classifier.calibration import (
    calibrated,
    expected_calibration_error,
    fit_temperatures,
    fold_temperature,
    negative_log_likelihood,
    reliability,
)

SIZES = {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
WIDTH = {"hidden_size": 8, "intermediate_size": 16}
MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES, **WIDTH)),
    "deberta-v2": (DebertaV2ForSequenceClassification, DebertaV2Config(**SIZES, **WIDTH)),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**SIZES, **WIDTH)),
    "xlm-roberta": (XLMRobertaForSequenceClassification, XLMRobertaConfig(**SIZES, **WIDTH)),
    "distilbert": (
        DistilBertForSequenceClassification,
        DistilBertConfig(vocab_size=40, dim=8, hidden_dim=16, n_layers=1, n_heads=2, num_labels=3),
    ),
}


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(4, 16).reshape(2, 6)).logits


@pytest.mark.parametrize("architecture", MODELS)
def test_folded_model_gives_calibrated_probabilities(architecture: str) -> None:
    """sigmoid of the new logits is sigmoid of the old ones over the temperature, a label at a time."""
    kind, config = MODELS[architecture]
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # so that the biases are not zero
        torch.nn.init.normal_(parameter, std=0.5)
    before_NL = logits_of(model)
    temperatures = [0.5, 1.0, 3.0]
    fold_temperature(model, temperatures)
    torch.testing.assert_close(logits_of(model), before_NL / torch.tensor(temperatures))
    np.testing.assert_allclose(
        logits_of(model).sigmoid().numpy(), calibrated(before_NL.numpy(), temperatures), rtol=1e-5, atol=1e-7
    )


def test_fold_needs_a_matching_layer_and_a_positive_temperature() -> None:
    kind, config = MODELS["bert"]
    with pytest.raises(ValueError, match="BertForSequenceClassification has no linear layer with 5 outputs"):
        fold_temperature(kind(config), [1.0] * 5)
    with pytest.raises(ValueError, match=r"a temperature must be above 0, got \[0.0\]"):
        fold_temperature(kind(config), [1.0, 0.0, 1.0])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_fit_finds_the_temperature_that_was_applied(temperature: float) -> None:
    """Logits are the true log-odds times T, and the targets the true probabilities: the loss is least at T. With 97,000
    rows the prior counts for nothing."""
    truth_N1 = np.tile(np.linspace(0.02, 0.98, 97), 1000)[:, None]
    (fit,) = fit_temperatures(logit(truth_N1) * temperature, truth_N1, ["toxic"])
    assert fit.value == pytest.approx(temperature, rel=1e-3)
    assert fit.fitted
    assert fit.nll_after <= fit.nll_before + 1e-12


@given(st.integers(0, 10_000))
def test_fit_never_raises_the_loss_and_keeps_the_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits_NL = generator.normal(scale=3, size=(60, 1))
    targets_NL = (generator.random((60, 1)) < expit(logits_NL / 2)).astype(np.float32)
    targets_NL[0], targets_NL[1] = 0, 1
    (fit,) = fit_temperatures(logits_NL, targets_NL, ["toxic"])
    assert fit.nll_after <= fit.nll_before + 1e-9
    assert (np.argsort(logits_NL[:, 0] / fit.value) == np.argsort(logits_NL[:, 0])).all()


def test_temperature_stays_in_its_range() -> None:
    """Logits that separate the classes want T towards 0, logits without information T towards infinity."""
    targets_NL = np.tile([[0.0], [0.0], [1.0], [1.0]], (25_000, 1))
    many = len(targets_NL) // 4
    (sharp,) = fit_temperatures(np.tile([[-0.3], [-0.3], [0.3], [0.3]], (many, 1)), targets_NL, ["a"])
    (flat,) = fit_temperatures(np.tile([[1.0], [-1.0], [1.0], [-1.0]], (many, 1)), targets_NL, ["a"])
    assert 0.05 <= sharp.value < 0.06
    assert 19 < flat.value <= 20


def test_few_rows_that_are_told_apart_make_nobody_certain() -> None:
    """Two positives of ten, told apart by a logit of 3 either way: the loss alone would take the least temperature, and
    then say 1 - 1e-26; with the prior on log T the temperature stays above a half."""
    logits_NL = np.array([[3.0]] * 2 + [[-3.0]] * 8)
    (fit,) = fit_temperatures(logits_NL, (logits_NL > 0).astype(float), ["a"])
    assert 0.5 < fit.value < 1
    assert fit.nll_after < fit.nll_before


def test_one_class_or_no_row_keeps_one() -> None:
    logits_NL = np.array([[2.0, 1.0], [3.0, 1.0]])
    one_class, missing = fit_temperatures(logits_NL, np.array([[1.0, np.nan], [1.0, np.nan]]), ["a", "b"])
    assert (one_class.value, one_class.fitted) == (1.0, False)
    assert (
        one_class.nll_after
        == one_class.nll_before
        == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(-3))) / 2)
    )
    assert (missing.value, missing.fitted) == (1.0, False)


def test_missing_targets_have_no_say() -> None:
    truth_N1 = np.tile(np.linspace(0.02, 0.98, 97), 1000)[:, None]
    more_N1 = np.concatenate([logit(truth_N1) * 2, [[50.0]]])
    (fit,) = fit_temperatures(more_N1, np.concatenate([truth_N1, [[np.nan]]]), ["toxic"])
    assert fit.value == pytest.approx(2, rel=1e-3)


def test_negative_log_likelihood_by_hand() -> None:
    """A logit of ln 3 is a probability of 3/4, so target 1 costs ln(4/3); at logit 0 every target costs ln 2."""
    assert negative_log_likelihood(np.array([math.log(3)]), np.array([1.0])) == pytest.approx(math.log(4 / 3))
    assert negative_log_likelihood(np.array([0.0]), np.array([0.3])) == pytest.approx(math.log(2))


def test_calibration_error_by_hand() -> None:
    """Two bins of two rows: mean probability .1 and .8, frequency 1/2 and 1/2, so (.4 + .3) / 2 = .35."""
    probabilities_N = np.array([0.05, 0.15, 0.7, 0.9])
    targets_N = np.array([0.0, 1.0, 1.0, 0.0])
    assert expected_calibration_error(probabilities_N, targets_N, bins=2) == pytest.approx(0.35)
    curve = reliability(probabilities_N, targets_N, bins=2)
    np.testing.assert_allclose(curve.confidence, [0.1, 0.8])
    np.testing.assert_allclose(curve.frequency, [0.5, 0.5])
    assert curve.rows.tolist() == [2, 2]


def test_reliability_drops_empty_bins_and_missing_rows_and_keeps_the_border() -> None:
    curve = reliability(np.array([1.0, 0.0, 0.5]), np.array([1.0, 0.0, np.nan]), bins=10)
    assert curve.rows.tolist() == [1, 1]
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0
    assert math.isnan(expected_calibration_error(np.array([0.5]), np.array([np.nan])))

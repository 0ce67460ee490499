"""Losses: hand-worked values, torch's own, masks, and that a batch is the sum of its parts."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import BCEWithLogitsLoss

from detox.classifier.loss_settings import LossSettings
from detox.classifier.losses import bce, build_loss, focal, label_weights, mse, positive_weights

LABELS = ("toxic", "threat")
NAN = float("nan")
TRAIN_NL = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], dtype=np.float32)


def batch(seed: int, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets with fractions and about a fifth missing."""
    generator = torch.Generator().manual_seed(seed)
    logits_NL = torch.randn(rows, 2, generator=generator) * 3
    targets_NL = torch.rand(rows, 2, generator=generator)
    return logits_NL, targets_NL.masked_fill(torch.rand(rows, 2, generator=generator) < 0.2, NAN)


def test_bce_by_hand() -> None:
    """At logit 0 each label costs ln 2: two known labels average to ln 2, one of two known to half of it."""
    losses_N = bce(torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [1.0, NAN], [NAN, NAN]]))
    assert losses_N.tolist() == pytest.approx([math.log(2), math.log(2) / 2, 0.0])


def test_mse_by_hand() -> None:
    """sigmoid(0) = 1/2: errors 1/2 and 1/4 give (1/4 + 1/16) / 2 = 5/32."""
    assert mse(torch.zeros(1, 2), torch.tensor([[1.0, 0.25]])).item() == pytest.approx(5 / 32)


def test_focal_by_hand() -> None:
    """At logit 0 and target 1 the distance is 1/2: gamma 2 gives ln 2 / 4."""
    assert focal(torch.zeros(1, 1), torch.ones(1, 1)).item() == pytest.approx(math.log(2) / 4)


def test_focal_without_gamma_is_bce() -> None:
    logits_NL, targets_NL = batch(seed=1)
    torch.testing.assert_close(focal(logits_NL, targets_NL, gamma=0), bce(logits_NL, targets_NL))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.5])])
def test_bce_mean_equals_torch(weights: torch.Tensor | None) -> None:
    """S3's WeightedBCEWithLogitsLoss is torch's with `weight`, averaged over rows and labels."""
    generator = torch.Generator().manual_seed(2)
    logits_NL, targets_NL = torch.randn(5, 2, generator=generator), torch.randint(2, (5, 2)).float()
    expected = BCEWithLogitsLoss(weight=weights)(logits_NL, targets_NL)
    torch.testing.assert_close(bce(logits_NL, targets_NL, label_weights_L=weights).mean(), expected)


def test_positive_weights_equal_torch() -> None:
    logits_NL, targets_NL = torch.randn(5, 2), torch.randint(2, (5, 2)).float()
    weights_L = torch.tensor([3.0, 0.5])
    expected = BCEWithLogitsLoss(pos_weight=weights_L)(logits_NL, targets_NL)
    torch.testing.assert_close(bce(logits_NL, targets_NL, positive_weights_L=weights_L).mean(), expected)


@pytest.mark.parametrize("name", ["bce", "weighted_bce", "focal", "mse"])
@given(seed=st.integers(0, 1000), cut=st.integers(0, 8))
def test_batch_is_the_sum_of_its_micro_batches(name: str, seed: int, cut: int) -> None:
    loss = build_loss(LossSettings(name=name), TRAIN_NL, LABELS)
    logits_NL, targets_NL = batch(seed)
    parts = loss(logits_NL[:cut], targets_NL[:cut]).sum() + loss(logits_NL[cut:], targets_NL[cut:]).sum()
    torch.testing.assert_close(parts, loss(logits_NL, targets_NL).sum())


@pytest.mark.parametrize("name", ["bce", "weighted_bce", "focal", "mse"])
@given(seed=st.integers(0, 1000))
def test_gradients_equal_on_ranks_and_vanish_where_missing(name: str, seed: int) -> None:
    """Two ranks of 3 and 5 rows, each dividing its sum by the 8 global rows, add up to the full batch's gradient."""
    loss = build_loss(LossSettings(name=name), TRAIN_NL, LABELS)
    logits_NL, targets_NL = batch(seed)

    def gradient(*slices: slice) -> torch.Tensor:
        leaf_NL = logits_NL.clone().requires_grad_()
        for rows in slices:
            (loss(leaf_NL[rows], targets_NL[rows]).sum() / 8).backward()
        assert leaf_NL.grad is not None
        return leaf_NL.grad

    whole_NL = gradient(slice(None))
    torch.testing.assert_close(gradient(slice(0, 3), slice(3, 8)), whole_NL)
    assert whole_NL.isfinite().all()
    assert (whole_NL[targets_NL.isnan()] == 0).all()


@given(seed=st.integers(0, 1000))
def test_missing_label_leaves_the_others_alone(seed: int) -> None:
    logits_NL, targets_NL = batch(seed)
    only_first_NL = targets_NL.clone()
    only_first_NL[:, 1] = NAN
    torch.testing.assert_close(bce(logits_NL, only_first_NL), bce(logits_NL[:, :1], targets_NL[:, :1]) / 2)


def test_label_weights_are_section_4_of_s3() -> None:
    """Frequencies 2/4 and 1/4, inverses 2 and 4, scaled to sum 2: 2/3 and 4/3 (the 1e-6 moves the sixth digit)."""
    assert label_weights(TRAIN_NL, LABELS).tolist() == pytest.approx([2 / 3, 4 / 3], abs=1e-5)


def test_label_weights_equal_the_pandas_of_s3() -> None:
    import pandas as pd

    train = pd.DataFrame((np.random.default_rng(3).random((500, 3)) < [0.5, 0.1, 0.02]).astype(float))
    frequency = train.sum(axis=0) / len(train)
    expected = 1 / (frequency + 1e-6)
    expected = expected / expected.sum() * 3
    np.testing.assert_allclose(label_weights(train.to_numpy(), ("a", "b", "c")), expected, rtol=1e-6)


def test_missing_rows_do_not_count_in_a_frequency() -> None:
    """One of two known rows is positive: the frequency is 1/2 for both labels, so both weigh 1."""
    labels_NL = np.array([[1, 1], [0, 0], [NAN, 1], [NAN, 0]], dtype=np.float32)
    assert label_weights(labels_NL, LABELS).tolist() == pytest.approx([1, 1])
    assert positive_weights(labels_NL, LABELS).tolist() == pytest.approx([1, 1])


def test_positive_weights_by_hand() -> None:
    assert positive_weights(TRAIN_NL, LABELS).tolist() == pytest.approx([1, 3])


def test_a_label_without_positives_cannot_be_weighted() -> None:
    labels_NL = np.array([[1, 0], [0, NAN]], dtype=np.float32)
    with pytest.raises(ValueError, match=r"none of threat: .*--loss.name bce"):
        build_loss(LossSettings(name="weighted_bce"), labels_NL, LABELS)


def test_built_losses_pickle_and_carry_their_weights() -> None:
    settings = LossSettings(name="weighted_bce", balance_positives=True)
    loss = pickle.loads(pickle.dumps(build_loss(settings, TRAIN_NL, LABELS)))
    logits_NL, targets_NL = batch(seed=4)
    expected_N = bce(logits_NL, targets_NL, torch.tensor([2 / 3, 4 / 3]), torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(loss(logits_NL, targets_NL), expected_N, rtol=1e-4, atol=1e-5)


def test_losses_of_half_precision_logits_are_float32() -> None:
    losses_N = bce(torch.full((1, 2), 0.5, dtype=torch.bfloat16), torch.ones(1, 2))
    torch.testing.assert_close(losses_N, bce(torch.full((1, 2), 0.5), torch.ones(1, 2)))


def test_balanced_positives_need_cross_entropy() -> None:
    with pytest.raises(ValueError, match="balance_positives needs the loss bce or weighted_bce, and the loss is 'mse'"):
        LossSettings(name="mse", balance_positives=True)

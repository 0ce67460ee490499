"""KL estimators and controllers: hand-worked values, their expectations, and saved states."""

from __future__ import annotations

import math

import pytest
import torch

from detox.alignment.kl import AdaptiveKlController, FixedKlController, kl_estimate

LN = math.log


def test_hand_worked_values() -> None:
    """A token of 1/2 under the policy and 1/4 under the reference: d = ln 2, d²/2, and 1/2 - 1 + ln 2."""
    policy_BT, reference_BT = torch.tensor([[LN(0.5), LN(0.25)]]), torch.tensor([[LN(0.25), LN(0.5)]])
    assert kl_estimate(policy_BT, reference_BT, "k1").tolist()[0] == pytest.approx([LN(2), -LN(2)])
    assert kl_estimate(policy_BT, reference_BT, "k2").tolist()[0] == pytest.approx([LN(2) ** 2 / 2] * 2)
    assert kl_estimate(policy_BT, reference_BT, "k3").tolist()[0] == pytest.approx([LN(2) - 0.5, 1 - LN(2)])
    with pytest.raises(ValueError, match="k1, k2 or k3"):
        kl_estimate(policy_BT, reference_BT, "k4")  # type: ignore[arg-type]


def test_their_expectations_under_the_policy() -> None:
    """p = (1/2, 1/3, 1/6) against q = (1/4, 1/4, 1/2): k1 and k3 average to sum p ln(p/q), k3 never below 0."""
    p, q = torch.tensor([1 / 2, 1 / 3, 1 / 6]), torch.tensor([1 / 4, 1 / 4, 1 / 2])
    kl = float((p * (p / q).log()).sum())
    for estimator in ("k1", "k3"):
        estimates = kl_estimate(p.log(), q.log(), estimator)  # type: ignore[arg-type]
        assert float((p * estimates).sum()) == pytest.approx(kl, abs=1e-6)
    assert (kl_estimate(p.log(), q.log(), "k3") >= 0).all()
    assert (kl_estimate(p.log(), q.log(), "k1") < 0).any()


def test_the_adaptive_price_by_hand() -> None:
    """Target 6, horizon 100, 20 samples: KL 6.6 is 10 % above, so times 1 + 0.1 x 0.2; KL 60 is held at 20 %."""
    controller = AdaptiveKlController(0.2, target=6.0, horizon=100)
    controller.update(6.6, samples=20)
    assert controller.coefficient == pytest.approx(0.2 * 1.02)
    controller.update(60.0, samples=20)
    assert controller.coefficient == pytest.approx(0.2 * 1.02 * 1.04)
    controller.update(0.0, samples=20)
    assert controller.coefficient == pytest.approx(0.2 * 1.02 * 1.04 * 0.96)
    steep = AdaptiveKlController(0.2, target=6.0, horizon=1)
    steep.update(0.0, samples=20)
    assert steep.coefficient == pytest.approx(0.16)
    with pytest.raises(ValueError, match="diverged"):
        controller.update(math.nan, samples=20)


def test_a_saved_controller_goes_on() -> None:
    first, second = (AdaptiveKlController(0.2, 6.0, 100) for _ in range(2))
    first.update(9.0, 50)
    second.load_state_dict(first.state_dict())
    for controller in (first, second):
        controller.update(2.0, 30)
    assert first.coefficient == second.coefficient != 0.2
    fixed = FixedKlController(0.05)
    fixed.update(100.0, 10)
    assert fixed.coefficient == 0.05
    assert fixed.state_dict() == {"coefficient": 0.05}

"""Advantages and losses of PPO: hand-worked values, a quadratic reference, and what masks must not let through."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detox.alignment.losses import Moments, gae, policy_loss, token_rewards, value_loss, whitened

SMALL = st.floats(-3, 3)


def quadratic_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """The sum of its definition, term by term: A_t = sum over l of (gamma lam)^l delta_{t+l}."""
    ends = [*values, 0.0]
    deltas = [reward + gamma * ends[at + 1] - ends[at] for at, reward in enumerate(rewards)]
    return [
        sum((gamma * lam) ** (later - at) * deltas[later] for later in range(at, len(deltas)))
        for at in range(len(deltas))
    ]


def test_gae_by_hand() -> None:
    """Rewards 0, 1 and values 0.5, 0.25 at gamma 1, lambda 1/2: deltas -0.25 and 0.75, so -0.25 + 0.75/2 = 0.125."""
    found = gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), torch.ones(1, 2), 1.0, 0.5)
    assert found.advantages_BT.tolist() == [[0.125, 0.75]]
    assert found.returns_BT.tolist() == [[0.625, 1.0]]


@given(
    rows=st.lists(
        st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=7), min_size=1, max_size=4
    ),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
    garbage=st.sampled_from([math.nan, math.inf, 1e30]),
)
@settings(deadline=None, max_examples=60)
def test_gae_equals_its_definition_whatever_stands_in_the_padding(
    rows: list[list[tuple[float, float]]], gamma: float, lam: float, garbage: float
) -> None:
    width = max(map(len, rows)) + 1
    rewards_BT, values_BT, mask_BT = (torch.full((len(rows), width), garbage) for _ in range(3))
    mask_BT = torch.zeros_like(mask_BT)
    for row, pairs in enumerate(rows):
        rewards_BT[row, : len(pairs)] = torch.tensor([reward for reward, _ in pairs])
        values_BT[row, : len(pairs)] = torch.tensor([value for _, value in pairs])
        mask_BT[row, : len(pairs)] = 1
    found = gae(rewards_BT, values_BT, mask_BT, gamma, lam)
    for row, pairs in enumerate(rows):
        wanted = quadratic_gae([reward for reward, _ in pairs], [value for _, value in pairs], gamma, lam)
        assert found.advantages_BT[row, : len(pairs)].tolist() == pytest.approx(wanted, abs=1e-4)
    assert not found.advantages_BT[mask_BT == 0].any()
    assert not found.returns_BT[mask_BT == 0].any()


def test_policy_loss_by_hand() -> None:
    """Ratios 1, 1.5 and 0.5 at clip 0.2: a gain is not followed beyond 1.2 or below 0.8, a loss always is."""
    old_BT = torch.zeros(1, 3)
    now_BT = torch.tensor([[0.0, math.log(1.5), math.log(0.5)]])
    gained = policy_loss(now_BT, old_BT, torch.ones(1, 3), 0.2)
    assert gained.losses_BT.tolist()[0] == pytest.approx([-1, -1.2, -0.5])
    assert gained.clipped_BT.tolist() == [[0, 1, 0]]
    lost = policy_loss(now_BT, old_BT, -torch.ones(1, 3), 0.2)
    assert lost.losses_BT.tolist()[0] == pytest.approx([1, 1.5, 0.8])
    assert lost.clipped_BT.tolist() == [[0, 0, 1]]


def test_a_clipped_token_moves_nothing() -> None:
    now_BT = torch.tensor([[math.log(1.5), math.log(1.1)]], requires_grad=True)
    policy_loss(now_BT, torch.zeros(1, 2), torch.ones(1, 2), 0.2).losses_BT.sum().backward()
    assert now_BT.grad is not None
    assert now_BT.grad.tolist()[0] == pytest.approx([0.0, -1.1])


def test_value_loss_by_hand() -> None:
    """Return 1, old value 0, new 0.5, clip 0.2: held at 0.2 the error is 0.8²/2, more than 0.5²/2."""
    new, old, wanted = torch.tensor([[0.5]]), torch.tensor([[0.0]]), torch.tensor([[1.0]])
    assert float(value_loss(new, old, wanted, 0.2)) == pytest.approx(0.32)
    assert float(value_loss(new, old, wanted, 0.0)) == pytest.approx(0.125)


def test_rewards_stand_on_the_last_token_less_the_price_of_the_kl() -> None:
    kl_BT = torch.tensor([[0.1, 0.2, math.nan], [0.3, 0.0, 0.1]])
    mask_BT = torch.tensor([[1, 1, 0], [1, 1, 1]])
    found_BT = token_rewards(torch.tensor([2.0, -1.0]), kl_BT, mask_BT, 0.5)
    assert found_BT[0].tolist() == pytest.approx([-0.05, 1.9, 0.0])
    assert found_BT[1].tolist() == pytest.approx([-0.15, 0.0, -1.05])


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=30),
    masked=st.integers(0, 10),
)
@settings(deadline=None, max_examples=60)
def test_moments_add_up_over_parts_and_do_not_see_what_is_masked(values: list[float], masked: int) -> None:
    values_N = torch.tensor([*values, *[1e30] * masked])
    mask_N = torch.tensor([1] * len(values) + [0] * masked)
    whole = Moments.of(values_N, mask_N)
    half = len(values) // 2
    parts = [Moments.of(values_N[part], mask_N[part]) for part in (slice(0, half), slice(half, None))]
    summed = Moments(*(sum(field, torch.tensor(0.0)) for field in zip(*parts, strict=True)))
    assert float(summed.variance) == pytest.approx(float(whole.variance), rel=1e-6, abs=1e-6)
    assert float(whole.mean) == pytest.approx(sum(values) / len(values), abs=1e-4)
    found_N: Tensor = whitened(values_N, mask_N, whole)
    assert not found_N[len(values) :].any()
    if float(whole.variance) > 1e-3:
        again = Moments.of(found_N, mask_N)
        assert float(again.mean) == pytest.approx(0, abs=1e-4)
        assert float(again.variance) == pytest.approx(1, abs=1e-3)
        kept = Moments.of(whitened(values_N, mask_N, whole, shift=False), mask_N)
        assert float(kept.mean) == pytest.approx(float(whole.mean), abs=1e-3)

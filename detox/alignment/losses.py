"""What PPO minimises, as pure functions of tensors (Schulman et al. 2017), and the advantages that it needs.

All means over tokens are sums over a count that the caller gives, so that a batch gives the sum of what its
micro-batches and its ranks give.

Shapes: B rows, T response tokens. A mask is 1 on a response's tokens, its EOS among them, and 0 after them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAST_VARIANCE = 1e-8


class Advantages(NamedTuple):
    advantages_BT: Tensor
    returns_BT: Tensor
    """What the value head should have said: advantage and value together."""


class Moments(NamedTuple):
    """Of masked values: sums, which add up over ranks."""

    number: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def of(cls, values: Tensor, mask: Tensor) -> Moments:
        """float64 sums over where the mask, of any shape the values have, is 1."""
        kept = values.double() * mask
        return cls(mask.double().sum(), kept.sum(), kept.square().sum())

    @property
    def mean(self) -> Tensor:
        return self.total / self.number.clamp(min=1)

    @property
    def variance(self) -> Tensor:
        """Without Bessel's correction."""
        return (self.squares / self.number.clamp(min=1) - self.mean.square()).clamp(min=0)


class PolicyLoss(NamedTuple):
    losses_BT: Tensor
    clipped_BT: Tensor
    """1 where the clip decides, so that the token moves nothing."""


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16); after a response there is nothing to gain.

    Args:
        rewards_BT, values_BT: of each token; what stands where the mask is 0 is not read.
        mask_BT: contiguous from the first token on.
    """
    mask_BT = mask_BT.to(values_BT.dtype)
    rewards_BT = torch.where(mask_BT.bool(), rewards_BT, 0.0)
    values_BT = torch.where(mask_BT.bool(), values_BT, 0.0)
    advantages_BT = torch.zeros_like(values_BT)
    ahead_B = next_B = torch.zeros_like(values_BT[:, 0])
    for step in reversed(range(values_BT.shape[1])):
        delta_B = rewards_BT[:, step] + gamma * next_B - values_BT[:, step]
        ahead_B = (delta_B + gamma * lam * ahead_B) * mask_BT[:, step]
        advantages_BT[:, step], next_B = ahead_B, values_BT[:, step]
    return Advantages(advantages_BT, advantages_BT + values_BT)


def whitened(values: Tensor, mask: Tensor, moments: Moments, shift: bool = True) -> Tensor:
    """Values at unit variance, 0 where the mask is 0.

    Args:
        shift: their mean becomes 0; False: stays as it was.
    """
    scaled = (values - moments.mean) * (moments.variance + LEAST_VARIANCE).rsqrt()
    kept = scaled if shift else scaled + moments.mean
    return torch.where(mask.bool(), kept, 0.0).to(values.dtype)


def policy_loss(logprobs_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, clip: float) -> PolicyLoss:
    """The clipped surrogate, -min(r A, clip(r, 1 - clip, 1 + clip) A) (Schulman et al. 2017, equation 7).

    Args:
        logprobs_BT, old_BT: of the sampled tokens now, and under the policy that sampled them; r = e^(now - old).
    """
    ratio_BT = (logprobs_BT - old_BT).exp()
    free_BT = -advantages_BT * ratio_BT
    held_BT = -advantages_BT * ratio_BT.clamp(1 - clip, 1 + clip)
    return PolicyLoss(torch.maximum(free_BT, held_BT), (held_BT > free_BT).float())


def value_loss(values_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, clip: float) -> Tensor:
    """Half the squared error of a value that may not leave its old one by more than `clip`, or the worse of the two.

    Args:
        clip: 0: no bound.
    """
    error_BT = (values_BT - returns_BT).square()
    if clip:
        held_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
        error_BT = torch.maximum(error_BT, (held_BT - returns_BT).square())
    return error_BT / 2


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
    """A response's score on its last token, less what each token's KL costs (Ziegler et al. 2019, equation 2).

    Args:
        coefficient: of a nat; 0 where the KL is in the loss and not in the reward.
    """
    last_B1 = mask_BT.sum(1, keepdim=True).long() - 1
    rewards_BT = torch.where(mask_BT.bool(), -coefficient * kl_BT, 0.0)
    return rewards_BT.scatter_add(1, last_B1, scores_B[:, None].to(kl_BT.dtype))

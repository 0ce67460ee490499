"""What an iteration of PPO learns from: responses in micro-batches, and what they turned out to be worth.

The rows of an iteration fall into minibatches, one an optimizer step, the same whatever the number of ranks; a rank
takes every other prompt of each. Within a rank's share rows of like length go through the model together, in as many
passes as the rank with the most tokens needs, so all ranks make the same number. Micro-batches stay as they are for all
passes of an iteration, so the ratio of new to old probability is exactly 1 until a weight has changed.

Shapes: B rows of a micro-batch, T response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from detox.alignment.policy import Evaluated, Sequences
from detox.alignment.ranks import Ranks


@dataclass
class Experience:
    """Of one micro-batch, filled in from top to bottom."""

    rows: np.ndarray
    """Positions of its rows among those of this rank `[B]`."""
    batch: Sequences
    weight_BT: Tensor
    """1 on the tokens that count; all 0 for a filler."""
    encoded: Tensor | None = None
    old_BT: Tensor = field(init=False)
    """Log-probabilities under the policy that sampled them."""
    reference_BT: Tensor = field(init=False)
    values_BT: Tensor = field(init=False)
    entropy_BT: Tensor = field(init=False)
    rewards_BT: Tensor = field(init=False)
    advantages_BT: Tensor = field(init=False)
    returns_BT: Tensor = field(init=False)
    ahead: Evaluated | None = None
    """What the policy gives, with its gradient, where it is known already."""


@dataclass(frozen=True)
class Minibatch:
    parts: list[Experience]
    """Of this rank."""
    tokens: float
    """That count, on all ranks together."""


def minibatches_of(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    groups: Sequence[int],
    count: int,
    budget: int,
    pad_id: int,
    device: torch.device,
    ranks: Ranks,
) -> list[Minibatch]:
    """This rank's micro-batches of each of `count` minibatches.

    Args:
        prompts, responses: token ids of this rank's rows.
        groups: in which minibatch each row is.
        budget: padded tokens of a micro-batch.
    """
    lengths_N2 = np.array([[len(pair[0]), len(pair[1])] for pair in zip(prompts, responses, strict=True)])
    groups_N = np.asarray(groups)
    shares = [_by_length(np.flatnonzero(groups_N == number), lengths_N2.sum(1)) for number in range(count)]
    passes = torch.tensor([_passes(lengths_N2[share], budget) for share in shares], device=device)
    found = []
    for share, number in zip(shares, ranks.most(passes).tolist(), strict=True):
        parts = []
        for rows in np.array_split(share, number):
            is_filler = not len(rows)
            rows = np.zeros(1, np.int64) if is_filler else rows
            batch = Sequences.of([prompts[row] for row in rows], [responses[row] for row in rows], pad_id, device)
            parts.append(Experience(rows, batch, batch.mask_BT.float() * (not is_filler)))
        tokens = ranks.total(torch.stack([part.weight_BT.sum() for part in parts]).sum())
        found.append(Minibatch(parts, float(tokens)))
    return found


def _by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return rows[np.argsort(-lengths[rows], kind="stable")]


def _passes(lengths_B2: np.ndarray, budget: int) -> int:
    """The least number of equal parts, longest rows first, none of which exceeds the budget once prompts and responses
    are padded; 1 at least."""
    for parts in range(1, len(lengths_B2) + 1):
        if all(part.max(0).sum() * len(part) <= budget for part in np.array_split(lengths_B2, parts)):
            return parts
    return max(1, len(lengths_B2))

"""What a policy says to prompts. PPO sees a callable, so another engine can stand in for the one here.

Responses are drawn from the whole distribution at the policy's temperature: with top-k or top-p it would not be the one
whose log-probabilities PPO computes. Rows are sorted by length, those that have ended leave the batch, and what a row
says depends on (seed, number of the row) and on nothing beside it, so it is the same on one worker and on many
(`detox.rewriter.generation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from detox.alignment.policy import Policy
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings


class Response(NamedTuple):
    tokens: list[int]
    """With EOS where it ended."""
    ended: bool
    """With EOS, not at the length limit."""


class Rollout(Protocol):
    """An engine that samples."""

    def __call__(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], seed: int) -> list[Response]:
        """A response to each prompt, drawn at the policy's temperature from the policy as it is now.

        Args:
            prompts: token ids without padding.
            numbers: of the prompts, for the sampling key; no two of a seed are alike.
        """
        ...


class PolicyRollout:
    """Samples from the policy's own weights, and leaves the policy in evaluation mode.

    Args:
        max_new_tokens: most tokens of a response, EOS included.
        batch_tokens: prompt tokens of a batch; 0: by the device.
    """

    def __init__(self, policy: Policy, max_new_tokens: int, batch_tokens: int = 0) -> None:
        self._policy = policy
        self._settings = GenerationSettings(
            mode="sample", max_new_tokens=max_new_tokens, temperature=policy.temperature, batch_tokens=batch_tokens
        )

    def __call__(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], seed: int) -> list[Response]:
        self._policy.eval()  # a layer that is checkpointed keeps no cache
        found = generate(self._policy.model, prompts, self._settings, seed=seed, row_numbers=numbers)
        return [Response([*one.tokens, *([] if one.end is None else [one.end])], one.finished) for [one] in found]

"""From what a reward function returns to what PPO learns from: checked, then scaled and clipped.

Shapes: B responses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from detox.alignment.ppo_settings import ScoreSettings

LEAST_DEVIATION = 1e-6


class Reward(Protocol):
    """What TRL's GRPO takes, too. One with a state, such as a generator that it draws from, has `state_dict` and
    `load_state_dict`, and the same on every rank."""

    __name__: str

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None] | np.ndarray:
        """A value for each completion; None where there is nothing to say, which is no value to PPO.

        Args:
            columns: of the data set, a value a completion; `completion_ids`; `trainer_state` with `global_step` and
                `max_steps`.
        """
        ...


class RewardError(ValueError):
    """A reward that PPO cannot learn from."""


def scores_of(
    reward: Reward, prompts: Sequence[str], completions: Sequence[str], columns: dict[str, Any]
) -> np.ndarray:
    """The rewards `[B]`, float64.

    Raises:
        RewardError: it raised, returned another number of values, or one that is no finite number.
    """
    name = getattr(reward, "__name__", type(reward).__name__)
    try:
        values = [
            None if value is None else float(value)
            for value in reward(prompts=prompts, completions=completions, **columns)
        ]
    except Exception as error:
        raise RewardError(f"the reward {name} failed on {len(completions)} completions: {error}") from error
    if len(values) != len(completions):
        raise RewardError(
            f"the reward {name} must return a value for each of the {len(completions)} completions, returned "
            f"{len(values)}"
        )
    for value, completion in zip(values, completions, strict=True):
        if value is None or not math.isfinite(value):
            raise RewardError(
                f"the reward {name} returned {value} for a completion of {len(completion)} characters: PPO needs a "
                "finite number for each"
            )
    return np.asarray(values, np.float64)


class ScoreNormaliser:
    """Mean and deviation of all rewards so far, by which new ones are brought to a scale (Chan et al. 1979)."""

    def __init__(self, settings: ScoreSettings) -> None:
        self._settings = settings
        self._number, self._mean, self._squares = 0, 0.0, 0.0

    def __call__(self, rewards_B: np.ndarray) -> np.ndarray:
        """The rewards, of the whole iteration, as PPO is to see them; they count themselves already."""
        self._add(rewards_B)
        scores_B = rewards_B
        if self._settings.center:
            scores_B = scores_B - self._mean
        deviation = math.sqrt(self._squares / self._number)
        if self._settings.scale and deviation > LEAST_DEVIATION:  # else all were alike, and there is no scale yet
            scores_B = scores_B / deviation
        if self._settings.clip:
            scores_B = scores_B.clip(-self._settings.clip, self._settings.clip)
        return scores_B

    def _add(self, rewards_B: np.ndarray) -> None:
        number, mean = len(rewards_B), float(rewards_B.mean())
        change, total = mean - self._mean, self._number + number
        self._squares += float(((rewards_B - mean) ** 2).sum()) + change**2 * self._number * number / total
        self._mean += change * number / total
        self._number = total

    def state_dict(self) -> dict[str, Any]:
        return {"number": self._number, "mean": self._mean, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._number, self._mean, self._squares = state["number"], state["mean"], state["squares"]

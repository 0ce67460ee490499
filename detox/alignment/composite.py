"""A visible weighted sum of rewards, which keeps its parts.

Each component is normalised and clipped if its settings say so, weighted by its place in the schedule, and the sum is
clipped at last. `parts` holds the raw values of the last call, by component: what is gamed shows there first.

Shapes: B responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detox.alignment.ppo_settings import ScoreSettings
from detox.alignment.reward_settings import ComponentSettings, RewardSettings
from detox.alignment.scores import Reward, ScoreNormaliser, scores_of

NORMALISED = ScoreSettings(scale=True, center=True)


class CompositeReward:
    """The sum, with the signature of TRL's GRPO.

    Args:
        rewards: of each component that the settings name.

    Raises:
        ValueError: one is missing.
    """

    def __init__(self, settings: RewardSettings, rewards: Mapping[str, Reward]) -> None:
        self.__name__ = "composite"
        missing = [one.component for one in settings.components if one.component not in rewards]
        if missing:
            raise ValueError(f"the reward has no component {', '.join(missing)}: build it, or leave it out")
        self._settings, self._rewards = settings, rewards
        self._normalisers = {one.component: ScoreNormaliser(NORMALISED) for one in settings.components if one.normalise}
        self.parts: dict[str, np.ndarray] = {}
        """Raw values `[B]` of the last call."""
        self.weights: dict[str, float] = {}
        """At the last call."""

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """The values; logs mean and deviation of each part where the trainer gives a `log_metric`.

        Raises:
            RewardError: a component failed.
        """
        step = int(getattr(columns.get("trainer_state"), "global_step", 0))
        total_B = np.zeros(len(completions))
        for one in self._settings.components:
            values_B = scores_of(self._rewards[one.component], prompts, completions, columns)
            self.parts[one.component] = values_B
            self.weights[one.component] = weight = weight_at(one, step)
            if one.normalise:
                values_B = self._normalisers[one.component](values_B)
            if one.clip:
                values_B = values_B.clip(-one.clip, one.clip)
            total_B = total_B + weight * values_B
        if log_metric := columns.get("log_metric"):
            for name, value in self.figures().items():
                log_metric(name, value)
        if self._settings.clip:
            total_B = total_B.clip(-self._settings.clip, self._settings.clip)
        return total_B.tolist()

    def figures(self) -> dict[str, float]:
        """`rewards/<component>/mean`, `…/std` and `…/weight` of the last call, named as TRL names them."""
        found = {}
        for name, values_B in self.parts.items():
            found[f"rewards/{name}/mean"] = float(values_B.mean())
            found[f"rewards/{name}/std"] = float(values_B.std())
            found[f"rewards/{name}/weight"] = self.weights[name]
        return found

    def state_dict(self) -> dict[str, Any]:
        stateful = {name: reward for name, reward in self._rewards.items() if hasattr(reward, "state_dict")}
        return {
            "normalisers": {name: normaliser.state_dict() for name, normaliser in self._normalisers.items()},
            "rewards": {name: reward.state_dict() for name, reward in stateful.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, normaliser in self._normalisers.items():
            normaliser.load_state_dict(state["normalisers"][name])
        for name, known in state["rewards"].items():
            self._rewards[name].load_state_dict(known)  # type: ignore[attr-defined]


def weight_at(settings: ComponentSettings, step: int) -> float:
    """A component's weight at a step of the trainer."""
    if not settings.over_steps:
        return settings.weight
    share = min(1.0, step / settings.over_steps)
    return settings.weight + share * (settings.final_weight - settings.weight)

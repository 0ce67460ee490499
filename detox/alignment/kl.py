"""How far a policy has gone from its reference: estimators a token, and who decides what that costs.

Shapes: B rows, T response tokens.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]

MOST_ERROR = 0.2
"""Of a batch's KL, relative to the target, that the adaptive controller reacts to (Ziegler et al. 2019)."""


def kl_estimate(logprobs_BT: Tensor, reference_BT: Tensor, estimator: Estimator = "k1") -> Tensor:
    """KL(policy || reference) of each token, in nats, from one sample of the policy (Schulman 2020).

    With d = log policy - log reference of the sampled token: `k1` is d, unbiased and of either sign; `k2` is d²/2,
    biased, with the gradient of the KL; `k3` is e^-d - 1 + d, unbiased and never negative.

    Raises:
        ValueError: an estimator that there is not.
    """
    difference_BT = logprobs_BT - reference_BT
    if estimator == "k1":
        return difference_BT
    if estimator == "k2":
        return difference_BT.square() / 2
    if estimator == "k3":
        return (-difference_BT).expm1() + difference_BT
    raise ValueError(f"a KL estimator is k1, k2 or k3, was {estimator!r}")


class KlController(Protocol):
    """What a nat of KL costs now."""

    @property
    def coefficient(self) -> float: ...

    def update(self, kl: float, samples: int) -> None:
        """Args:
        kl: mean over a batch of each response's KL, in nats.
        samples: responses in it.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class FixedKlController:
    """The same price throughout."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient

    def update(self, kl: float, samples: int) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, Any]:
        return {"coefficient": self.coefficient}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.coefficient = state["coefficient"]


class AdaptiveKlController(FixedKlController):
    """Raises the price while the KL is above its target and lowers it below (Ziegler et al. 2019, section 2.2).

    coefficient *= 1 + clip(kl / target - 1, -0.2, 0.2) * min(1, samples / horizon).

    Args:
        target: nats a response.
        horizon: responses over which the price can change by a fifth.
    """

    def __init__(self, coefficient: float, target: float, horizon: float) -> None:
        super().__init__(coefficient)
        self._target, self._horizon = target, horizon

    def update(self, kl: float, samples: int) -> None:
        """Raises:
        ValueError: a KL that is no number.
        """
        if not math.isfinite(kl):
            raise ValueError(f"the KL controller needs a finite KL, was given {kl}: the policy has diverged")
        error = min(max(kl / self._target - 1, -MOST_ERROR), MOST_ERROR)
        self.coefficient *= 1 + error * min(1.0, samples / self._horizon)
